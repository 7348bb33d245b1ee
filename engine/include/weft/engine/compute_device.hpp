// Where a runner computes, if not on the CPU: weights and activations lie there, and a mirror of each cache's
// rows. The caches on the host are what everything else reads and writes; what only passes read may lie in
// the mirrors alone (`kv_cache::is_home`).
#pragma once

#include <weft/base/error.hpp>
#include <weft/device/device.hpp>

#include <memory>
#include <string_view>

namespace weft::engine {

class device_kernels;

struct compute_device {
  std::shared_ptr<device::device> memory;
  std::shared_ptr<device_kernels> kernels;
};

// "cpu": null. "cuda:0", "cuda:1", ...: `unsupported` where weft or the machine has no such device. "auto":
// the first CUDA device, or null. `invalid_argument` for any other name.
result<std::shared_ptr<const compute_device>> open_compute_device(std::string_view name);

}  // namespace weft::engine
