// What every group does, however its bytes move.
#pragma once

#include <weft/collective/device_communicator.hpp>

#include <doctest/doctest.h>

#include "group_in_threads.hpp"

#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace weft::collective::testing {

// Values whose sum depends on the order: of both signs and many magnitudes.
inline std::vector<float> values_of(unsigned rank, std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed * 64 + rank);
  std::vector<float> values(count);
  for (auto& value : values) {
    const auto bits = static_cast<std::uint32_t>(random());
    value = std::ldexp(static_cast<float>(static_cast<std::int32_t>(bits)), static_cast<int>(bits % 41) - 50);
  }
  return values;
}

inline std::vector<float> sum_in_order(unsigned ranks, std::size_t count, std::uint32_t seed) {
  auto sums = values_of(0, count, seed);
  for (unsigned rank = 1; rank < ranks; ++rank) {
    const auto more = values_of(rank, count, seed);
    for (std::size_t i = 0; i < count; ++i)
      sums[i] += more[i];
  }
  return sums;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return false;
  return a.size() == b.size();
}

inline std::vector<std::byte> bytes_of(unsigned rank, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<std::byte>((i * 7 + i / 251 + rank * 31) & 255U);
  return bytes;
}

constexpr std::size_t sizes[] = {1, 2, 3, 17, 1000, 2048, 8191, 8192, 8193, 20'011, 65'536, 300'007};

template <class Groups>
void check_sums(unsigned ranks) {
  auto group = Groups::make(ranks, {.timeout = std::chrono::seconds{60}, .piece_bytes = 64 << 10});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    for (const std::size_t count : sizes)
      for (std::uint32_t seed = 0; seed < 2; ++seed) {
        auto values = values_of(here.rank(), count, seed);
        if (!here.all_reduce(values) || !same_bits(values, sum_in_order(here.size(), count, seed))) ++wrong;
      }
  });
  CHECK(wrong == 0);
}

template <class Groups>
void check_broadcasts_and_gathers(unsigned ranks) {
  auto group = Groups::make(ranks, {.timeout = std::chrono::seconds{60}, .piece_bytes = 64 << 10});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    for (unsigned root = 0; root < here.size(); ++root)
      for (const std::size_t count :
           {std::size_t{0}, std::size_t{1}, std::size_t{65'536}, std::size_t{200'003}}) {
        auto bytes = bytes_of(here.rank(), count);
        if (!here.broadcast(bytes, root) || bytes != bytes_of(root, count)) ++wrong;
      }
    for (const std::size_t unit : {std::size_t{0}, std::size_t{1}, std::size_t{50'001}}) {
      // The first rank brings nothing, the others ever more.
      std::vector<std::size_t> part_bytes;
      std::vector<std::byte> wanted, all;
      for (unsigned r = 0; r < here.size(); ++r) {
        part_bytes.push_back(r * unit);
        const auto part = bytes_of(r, r * unit);
        wanted.insert(wanted.end(), part.begin(), part.end());
        all.resize(wanted.size());
        if (r == here.rank())
          std::copy(part.begin(), part.end(), all.end() - static_cast<std::ptrdiff_t>(part.size()));
      }
      if (!here.all_gather(all, part_bytes) || all != wanted) ++wrong;
    }
    if (!here.barrier()) ++wrong;
  });
  CHECK(wrong == 0);
  const auto refused = group[0]->broadcast({}, ranks);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::invalid_argument);
}

// Nobody comes back from a barrier before everybody was there.
template <class Groups>
void check_barriers() {
  auto group = Groups::make(3, {.timeout = std::chrono::seconds{60}});
  std::atomic<unsigned> arrived = 0;
  std::atomic<int> early = 0;
  on_all(group, [&](communicator& here) {
    for (unsigned round = 1; round <= 50; ++round) {
      ++arrived;
      if (!here.barrier() || arrived < round * 3) ++early;
    }
  });
  CHECK(early == 0);
}

// A rank that leaves: the others learn it, in the middle of a long sum too, and keep saying so.
template <class Groups>
void check_leaving(unsigned ranks, std::size_t count) {
  auto group = Groups::make(ranks, {.timeout = std::chrono::seconds{30}});
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (auto& rank : group)
    threads.emplace_back([&wrong, count, &rank] {
      std::vector<float> values(count, 1.0F);
      if (!rank->all_reduce(values)) ++wrong;
      if (rank->rank() == 1) return rank.reset();
      const auto lost = rank->all_reduce(values);
      if (lost || lost.error().code != errc::unreachable) ++wrong;
      const auto again = rank->barrier();
      if (again || again.error().code != errc::unreachable) ++wrong;
    });
  for (auto& thread : threads)
    thread.join();
  CHECK(wrong == 0);
}

// A rank that cannot go on says why to itself, and the others learn that it is gone.
template <class Groups>
void check_giving_up() {
  auto group = Groups::make(3, {.timeout = std::chrono::seconds{30}});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    std::vector<float> values(1000, 1.0F);
    if (!here.all_reduce(values)) ++wrong;
    auto& ranks = dynamic_cast<device_communicator&>(here);
    if (here.rank() == 2) ranks.leave({errc::out_of_space, "no memory"});
    for (int again = 0; again < 2; ++again) {
      const auto done = here.all_reduce(values);
      if (done || done.error().code != (here.rank() == 2 ? errc::out_of_space : errc::unreachable)) ++wrong;
      ranks.leave({errc::internal, "too late to be why"});
    }
    if (here.size() != 3) ++wrong;
  });
  CHECK(wrong == 0);
}

// A rank that never comes costs the timeout, not more.
template <class Groups>
void check_deadlines() {
  auto group = Groups::make(3, {.timeout = std::chrono::milliseconds{200}});
  std::atomic<int> wrong = 0;
  auto absent = std::move(group[2]);
  on_all(group, [&](communicator& here) {
    std::vector<float> values(100, 1.0F);
    const auto late = here.all_reduce(values);
    // The first to give up leaves the group, which may be what the other learns.
    if (late || (late.error().code != errc::deadline_exceeded && late.error().code != errc::unreachable))
      ++wrong;
  });
  CHECK(wrong == 0);
}

template <class Groups>
void check_disagreement() {
  auto group = Groups::make(2, {.timeout = std::chrono::seconds{30}});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    std::vector<float> values(here.rank() + 1, 1.0F);
    if (here.all_reduce(values)) ++wrong;
  });
  CHECK(wrong == 0);
}

template <class Groups>
void check_group_contract() {
  for (unsigned ranks = 1; ranks <= 4; ++ranks) {
    CAPTURE(ranks);
    check_sums<Groups>(ranks);
    check_broadcasts_and_gathers<Groups>(ranks);
  }
  check_barriers<Groups>();
  check_leaving<Groups>(2, 1);
  check_leaving<Groups>(4, 400'000);
  check_giving_up<Groups>();
  check_deadlines<Groups>();
  check_disagreement<Groups>();
}

}  // namespace weft::collective::testing
