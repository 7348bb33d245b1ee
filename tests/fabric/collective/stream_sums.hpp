// What a group does that sums behind the streams of its ranks' devices, over NCCL or what plays it.
#pragma once

#include <weft/collective/device_communicator.hpp>
#include <weft/device/cuda_device.hpp>
#include <weft/device/recording.hpp>

#include "contract.hpp"
#include "nccl_groups.hpp"

#include <memory>
#include <utility>
#include <vector>

namespace weft::collective::testing {

// Of one rank, on the device of its number.
struct values_on_device {
  values_on_device(unsigned rank, std::size_t count)
      : device(device::open_cuda(rank).value()),
        stream(device->make_stream().value()),
        memory(device->allocate(count * sizeof(float), "values").value()),
        floats(reinterpret_cast<float*>(memory.data()), count) {}

  void put(const std::vector<float>& values) {
    stream->upload(memory.data(), values.data(), floats.size_bytes());
    REQUIRE(stream->wait());
  }
  std::vector<float> got() {
    std::vector<float> values(floats.size());
    stream->download(values.data(), memory.data(), floats.size_bytes());
    REQUIRE(stream->wait());
    return values;
  }

  // What `give` gives the stream.
  template <class Give>
  std::unique_ptr<device::recording> recorded(Give give) {
    recorder().begin_recording();
    REQUIRE(give());
    return std::move(recorder().end_recording().value());
  }
  device::recording_stream& recorder() { return dynamic_cast<device::recording_stream&>(*stream); }

  std::shared_ptr<device::device> device;
  std::unique_ptr<device::stream> stream;
  device::memory memory;
  std::span<float> floats;
};

// As they come, several behind one another, and recorded between such that are not: short ones, by parts, and
// by pieces.
inline void check_sums_behind_streams(unsigned ranks) {
  auto group = nccl_groups::make(ranks, {.timeout = std::chrono::seconds{20}, .piece_bytes = 16 << 10});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    auto& sums = dynamic_cast<device_communicator&>(here);
    for (const std::size_t count : {1UL, 100UL, 5000UL, 50'003UL}) {
      values_on_device values(here.rank(), count);
      const auto sum = [&] { return sums.all_reduce_behind(values.floats, *values.stream); };
      const auto once = sum_in_order(here.size(), count, 1);
      auto twice = once;
      for (unsigned r = 1; r < here.size(); ++r)
        for (std::size_t i = 0; i < count; ++i)
          twice[i] += once[i];
      const auto check = [&](const std::vector<float>& wanted) {
        if (!sums.wait_for(*values.stream) || !same_bits(values.got(), wanted)) ++wrong;
      };
      const auto own = values_of(here.rank(), count, 1);
      values.put(own);
      if (!sum()) ++wrong;
      check(once);
      if (!sum()) ++wrong;
      check(twice);
      const auto recorded = values.recorded(sum);
      const auto launch = [&] {
        if (!sums.launch(values.recorder(), *recorded)) ++wrong;
      };
      for (int again = 0; again < 2; ++again) {
        values.put(own);
        launch();
        check(once);
        if (!sum()) ++wrong;
        check(twice);
      }
      values.put(own);
      launch();
      launch();
      check(twice);
    }
  });
  CHECK(wrong == 0);
}

// More than a stream is given ahead.
inline void check_many_sums_behind_streams(unsigned ranks) {
  auto group = nccl_groups::make(ranks, {.timeout = std::chrono::seconds{20}});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    auto& sums = dynamic_cast<device_communicator&>(here);
    values_on_device values(here.rank(), 50);
    values.put(values_of(here.rank(), 50, 1));
    auto wanted = sum_in_order(here.size(), 50, 1);
    for (int i = 0; i < 50; ++i) {
      if (!sums.all_reduce_behind(values.floats, *values.stream)) ++wrong;
      const auto parts = wanted;
      for (unsigned r = 1; i > 0 && r < here.size(); ++r)
        for (std::size_t k = 0; k < parts.size(); ++k)
          wanted[k] += parts[k];
    }
    if (!sums.wait_for(*values.stream) || !same_bits(values.got(), wanted)) ++wrong;
  });
  CHECK(wrong == 0);
}

// A rank that goes while the others' streams wait for it, in a sum that was recorded or that comes as it is:
// they end within the timeout, and the recordings may go when they like.
inline void check_lost_behind_streams(unsigned ranks, bool record) {
  auto group = nccl_groups::make(ranks, {.timeout = std::chrono::seconds{3}});
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (auto& rank : group)
    threads.emplace_back([&wrong, &rank, record] {
      auto& sums = dynamic_cast<device_communicator&>(*rank);
      values_on_device values(rank->rank(), 1000);
      const auto sum = [&] { return sums.all_reduce_behind(values.floats, *values.stream); };
      values.put(values_of(rank->rank(), 1000, 1));
      if (!sum() || !sums.wait_for(*values.stream)) ++wrong;
      auto recorded = record ? values.recorded(sum) : nullptr;
      if (rank->rank() == 1) {
        recorded.reset();
        return rank.reset();
      }
      if (!(record ? sums.launch(values.recorder(), *recorded) : sum())) ++wrong;
      // Waits for the stream, as anything may.
      std::vector<float> out(values.floats.size());
      values.stream->download(out.data(), values.memory.data(), values.floats.size_bytes());
      for (int again = 0; again < 2; ++again) {
        const auto lost = sums.wait_for(*values.stream);
        if (lost || (lost.error().code != errc::unreachable && lost.error().code != errc::deadline_exceeded))
          ++wrong;
      }
      if (sum() || rank->barrier()) ++wrong;
      if (!values.stream->wait()) ++wrong;
    });
  for (auto& thread : threads)
    thread.join();
  CHECK(wrong == 0);
}

// A rank that cannot go on leaves while its recordings are there.
inline void check_leaving_with_recordings() {
  auto group = nccl_groups::make(2, {.timeout = std::chrono::seconds{3}});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    auto& sums = dynamic_cast<device_communicator&>(here);
    values_on_device values(here.rank(), 1000);
    const auto recorded =
        values.recorded([&] { return sums.all_reduce_behind(values.floats, *values.stream); });
    sums.leave({errc::out_of_space, "no memory"});
    const auto left = sums.wait_for(*values.stream);
    if (left || left.error().code != errc::out_of_space) ++wrong;
  });
  CHECK(wrong == 0);
}

}  // namespace weft::collective::testing
