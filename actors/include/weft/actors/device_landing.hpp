// Memory of the device that a node computes on, beside its staging area, which blocks of others are fetched
// into where the way there is one of gets.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/block_landing.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/fabric/transport.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

namespace weft::actors {

struct device_landing {
  std::shared_ptr<engine::block_landing> blocks;
  std::shared_ptr<const fabric::registered_memory> memory;  // the same bytes; goes first
};

// Where the host finds memory of a device that is the likeness of one; nothing of a CUDA device's.
using device_on_host = std::function<std::span<std::byte>(std::span<std::byte>)>;

// `beside` is staging. Of a CUDA device `unsupported` where the fabric does not write there; `out_of_space`.
result<std::shared_ptr<const device_landing>> make_device_landing(
    std::shared_ptr<const engine::compute_device> on, std::span<std::byte> beside,
    fabric::transport& transport, const device_on_host& on_host);

}  // namespace weft::actors
