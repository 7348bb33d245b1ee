// A CUDA device with its kernels, where weft is built with CUDA.
#pragma once

#include <weft/device/cuda_device.hpp>
#include <weft/engine/compute_device.hpp>

namespace weft::engine {

// `unsupported` as `device::open_cuda` says.
result<std::shared_ptr<const compute_device>> open_cuda_device(unsigned number);

}  // namespace weft::engine
