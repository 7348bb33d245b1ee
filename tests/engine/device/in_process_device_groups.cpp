#include <weft/collective/in_process.hpp>

#include "device_groups.hpp"
#include "group_of_likenesses.hpp"

#include <chrono>
#include <utility>

namespace weft::engine::test {

group_list make_groups(const std::vector<std::shared_ptr<const compute_device>>& devices, sums_over sums) {
  auto group = collective::make_in_process_group(static_cast<unsigned>(devices.size()),
                                                 {.timeout = std::chrono::seconds{60}});
  if (sums == sums_over::host) return group;
  for (auto& rank : group) {
    auto& host = *rank;
    rank = std::make_unique<group_of_likenesses>(
        std::move(rank), [&host](std::span<float> values) { return host.all_reduce(values); });
  }
  return group;
}

}  // namespace weft::engine::test
