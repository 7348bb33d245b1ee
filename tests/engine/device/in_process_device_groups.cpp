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
  for (std::size_t rank = 0; rank < group.size(); ++rank)
    group[rank] = std::make_unique<group_of_likenesses>(std::move(group[rank]), devices[rank]);
  return group;
}

}  // namespace weft::engine::test
