// The sums go over what we do with NCCL, which threads play: tests/fabric/collective/threads_as_ranks.cpp.
#include <weft/collective/device_sums.hpp>
#include <weft/collective/in_process.hpp>
#include <weft/device/cuda_device.hpp>

#include <doctest/doctest.h>

#include "device_groups.hpp"
#include "group_of_likenesses.hpp"

#include <chrono>
#include <thread>
#include <utility>

namespace weft::engine::test {

group_list make_groups(const std::vector<std::shared_ptr<const compute_device>>& devices, sums_over sums) {
  constexpr auto timeout = std::chrono::seconds{60};
  auto group = collective::make_in_process_group(static_cast<unsigned>(devices.size()), {.timeout = timeout});
  if (sums == sums_over::host) return group;
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < group.size(); ++rank)
    threads.emplace_back([&, rank] {
      auto grown = collective::with_device_sums(std::move(group[rank]),
                                                {.device = static_cast<int>(rank), .timeout = timeout});
      REQUIRE_MESSAGE(grown.has_value(), grown.error().context);
      REQUIRE_MESSAGE(grown->summing.has_value(), grown->summing.error().context);
      auto& ranks = dynamic_cast<collective::device_communicator&>(*grown->group);
      const std::shared_ptr<device::stream> stream =
          device::open_cuda(static_cast<unsigned>(rank)).value()->make_stream().value();
      group[rank] = std::make_unique<group_of_likenesses>(
          std::move(grown->group), [&ranks, stream](std::span<float> values) -> result<void> {
            if (auto given = ranks.all_reduce_behind(values, *stream); !given) return given;
            return ranks.wait_for(*stream);
          });
    });
  for (auto& thread : threads)
    thread.join();
  return group;
}

}  // namespace weft::engine::test
