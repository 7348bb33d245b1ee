// Where the host finds the memory of a device's likeness.
#pragma once

#include <weft/actors/device_landing.hpp>
#include <weft/device/host_device.hpp>

namespace weft::simulation {

inline actors::device_on_host on_host(const engine::compute_device& likeness) {
  return [memory = likeness.memory](std::span<std::byte> there) {
    const auto& known = dynamic_cast<const device::host_device&>(*memory);
    return std::span{known.at(there.data(), there.size()), there.size()};
  };
}

}  // namespace weft::simulation
