// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)).
#pragma once

#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::kernels {

// f32 [rows][columns]; gate and up have rows `in_stride` floats apart (as one product with stacked gate and
// up weights leaves them), out `out_stride`. `out` may be `gate`.
void swiglu(const float* gate, const float* up, std::size_t in_stride, float* out, std::size_t out_stride,
            std::uint32_t rows, std::uint32_t columns, thread_pool& pool);

}  // namespace weft::kernels
