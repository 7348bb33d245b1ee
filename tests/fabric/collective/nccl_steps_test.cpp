// What a group over NCCL does with what NCCL and CUDA offer, on any machine: see threads_as_ranks.cpp.
#include <weft/collective/device_sums.hpp>

#include "contract.hpp"
#include "nccl_groups.hpp"
#include "stream_sums.hpp"
#include <cuda_runtime_api.h>

#include <cstring>

using namespace weft::collective;
using namespace weft::collective::testing;
using weft::errc;

TEST_CASE("sums are those of any group, bit for bit, and so are broadcasts, gathers and barriers") {
  for (unsigned ranks = 1; ranks <= 4; ++ranks) {
    CAPTURE(ranks);
    check_sums<nccl_groups>(ranks);
    check_broadcasts_and_gathers<nccl_groups>(ranks);
  }
  check_barriers<nccl_groups>();
}

TEST_CASE("a rank that NCCL finds lost, and one that is late, end the group") {
  check_leaving<nccl_groups>(2, 1);
  check_leaving<nccl_groups>(4, 400'000);
  check_giving_up<nccl_groups>();
  check_deadlines<nccl_groups>();
}

TEST_CASE("who is left makes a group without the lost rank") {
  auto group = nccl_groups::make(3, {.timeout = std::chrono::seconds{20}});
  group[2].reset();
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    std::vector<float> values(100, 1.0F);
    const auto lost = here.all_reduce(values);
    if (lost || lost.error().code != errc::unreachable) ++wrong;
  });
  CHECK(wrong == 0);
  check_sums<nccl_groups>(2);
}

TEST_CASE("a copy of the host's memory does not wait behind an operation that never ends") {
  auto group = nccl_groups::make(2, {.timeout = std::chrono::seconds{20}, .piece_bytes = 4096});
  group[1].reset();
  group.pop_back();
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    std::vector<std::byte> bytes(50'000);
    const auto lost = here.broadcast(bytes, 0);
    if (lost || lost.error().code != errc::unreachable) ++wrong;
  });
  CHECK(wrong == 0);
}

namespace {

// Groups of threads with sums over NCCL besides, but for a rank that has no device.
rank_list grown_groups(unsigned ranks, unsigned without) {
  auto host = in_process_groups::make(ranks, {.timeout = std::chrono::seconds{20}});
  return join_in_threads(ranks, [&](unsigned rank) -> weft::result<std::unique_ptr<communicator>> {
    device_sums_options options;
    if (rank != without) options.device = static_cast<int>(rank);
    auto grown = with_device_sums(std::move(host[rank]), options);
    if (!grown) return tl::unexpected(grown.error());
    CHECK(grown->summing.has_value() == (without >= ranks));
    return std::move(grown->group);
  });
}

}  // namespace

TEST_CASE("ranks that all have a device sum there, and all know if one has none") {
  constexpr unsigned nobody = 64;
  for (const unsigned without : {nobody, 0U, 2U}) {
    auto group = grown_groups(3, without);
    std::atomic<int> wrong = 0;
    on_all(group, [&](communicator& here) {
      auto& devices = dynamic_cast<device_communicator&>(here);
      if (devices.sums_on_devices() != (without == nobody)) ++wrong;
      auto values = values_of(here.rank(), 5000, 1);
      values_on_device there(here.rank(), values.size());
      there.put(values);
      const auto sum = sum_in_order(here.size(), values.size(), 1);
      if (!here.all_reduce(values) || !same_bits(values, sum)) ++wrong;
      for (const auto& done :
           {devices.all_reduce_behind(there.floats, *there.stream), devices.wait_for(*there.stream)})
        if (without == nobody ? !done : done.error().code != errc::unsupported) ++wrong;
      if (without == nobody && !same_bits(there.got(), sum)) ++wrong;
    });
    CHECK(wrong == 0);
  }
}

TEST_CASE("who waits for a rank that cannot join learns it at once") {
  constexpr int device_that_fails = 63;
  auto host = in_process_groups::make(3, {.timeout = std::chrono::seconds{20}});
  const auto group = join_in_threads(3, [&](unsigned rank) -> weft::result<std::unique_ptr<communicator>> {
    // Who waited as long as joining may take would be killed with this test.
    auto grown = with_device_sums(std::move(host[rank]),
                                  {.device = rank == 1 ? device_that_fails : static_cast<int>(rank),
                                   .join_timeout = std::chrono::hours{1}});
    if (!grown) return tl::unexpected(grown.error());
    const auto code = rank == 1 ? errc::unreachable : errc::unsupported;
    CHECK((!grown->summing && grown->summing.error().code == code));
    return std::move(grown->group);
  });
}

TEST_CASE("a rank that leaves ends both ways of a group") {
  for (const bool first_on_devices : {false, true}) {
    auto group = grown_groups(3, 64);
    std::atomic<int> wrong = 0;
    on_all(group, [&](communicator& here) {
      auto& both = dynamic_cast<device_communicator&>(here);
      if (here.rank() == 1) both.leave({errc::out_of_space, "no memory"});
      std::vector<float> values(100, 1.0F);
      values_on_device there(here.rank(), 100);
      for (const bool devices : {first_on_devices, !first_on_devices}) {
        if (devices) (void)both.all_reduce_behind(there.floats, *there.stream);
        const auto done = devices ? both.wait_for(*there.stream) : here.all_reduce(values);
        const auto code = here.rank() == 1 ? errc::out_of_space : errc::unreachable;
        if (done || done.error().code != code) ++wrong;
      }
    });
    CHECK(wrong == 0);
  }
}

TEST_CASE("device memory is summed where it lies") {
  auto group = nccl_groups::make(3, {.timeout = std::chrono::seconds{20}, .piece_bytes = 4096});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    for (const std::size_t count : {100UL, 20'000UL}) {
      void* memory = nullptr;
      if (cudaMalloc(&memory, count * sizeof(float)) != cudaSuccess) ++wrong;
      auto values = values_of(here.rank(), count, 1);
      std::memcpy(memory, values.data(), count * sizeof(float));
      if (!here.all_reduce({static_cast<float*>(memory), count})) ++wrong;
      std::memcpy(values.data(), memory, count * sizeof(float));
      if (!same_bits(values, sum_in_order(here.size(), count, 1))) ++wrong;
      cudaFree(memory);
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("sums behind streams are those of any group, as they come and recorded") {
  for (unsigned ranks = 1; ranks <= 4; ++ranks) {
    CAPTURE(ranks);
    check_sums_behind_streams(ranks);
    check_many_sums_behind_streams(ranks);
  }
}

TEST_CASE("streams do not wait for a lost rank, nor does who has recordings") {
  for (const bool record : {false, true}) {
    check_lost_behind_streams(2, record);
    check_lost_behind_streams(3, record);
  }
  check_leaving_with_recordings();
}
