// Groups of threads, a device for each.
#pragma once

#include <weft/collective/device_communicator.hpp>
#include <weft/engine/compute_device.hpp>

#include <memory>
#include <vector>

namespace weft::engine::test {

using collective::communicator;
using group_list = std::vector<std::unique_ptr<communicator>>;

enum class sums_over { host, devices };

// By rank. Over devices: all of them are likenesses on the host.
group_list make_groups(const std::vector<std::shared_ptr<const compute_device>>& devices, sums_over sums);

}  // namespace weft::engine::test
