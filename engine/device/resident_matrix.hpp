// A matrix of weights in device memory.
#pragma once

#include <weft/device/device.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::engine {

class device_kernels;
struct product_work;

struct resident_matrix {
  const std::byte* weights = nullptr;  // [outputs][inputs]
  const float* bias = nullptr;         // [outputs], or null
  kernels::dtype type = kernels::dtype::bf16;
  std::uint32_t outputs = 0;
  std::uint32_t inputs = 0;
};

// The product, and the bias behind it. `work` says all but what the matrix does; its first `work.outputs`
// outputs are made.
void multiply(const resident_matrix& matrix, product_work work, device_kernels& kernels, device::stream& on);

}  // namespace weft::engine
