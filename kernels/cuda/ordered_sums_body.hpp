// What one thread does for sum_in_order.
#pragma once

#include "cuda/both_sides.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

WEFT_BOTH_SIDES inline float ordered_sum(const float* values, std::size_t stride, std::uint32_t ranks,
                                         std::size_t index) {
  float sum = values[index];
  for (std::uint32_t rank = 1; rank < ranks; ++rank)
    sum += values[rank * stride + index];
  return sum;
}

}  // namespace weft::kernels::cuda
