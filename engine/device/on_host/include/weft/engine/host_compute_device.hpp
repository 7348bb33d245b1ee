// A device's likeness on the host that computes what a GPU would, thread by thread: for tests, and slow.
#pragma once

#include <weft/engine/compute_device.hpp>

#include <cstddef>
#include <memory>

namespace weft::engine {

// With that much device memory. Products are the CPU's, everything else is what the GPU's threads and warps
// do, over weft::device's host_device.
std::shared_ptr<const compute_device> host_compute_device(std::size_t memory_bytes);

}  // namespace weft::engine
