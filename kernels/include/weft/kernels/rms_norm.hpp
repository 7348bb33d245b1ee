// out[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i], per row.
#pragma once

#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::kernels {

// x and out: f32 [rows][columns], rows `x_stride` and `out_stride` floats apart; they may be the same memory.
// A row of `groups` vectors (such as heads) is normalised vector by vector: columns = values per vector, all
// with the same `weight`, vectors `columns` floats apart.
void rms_norm(const float* x, std::size_t x_stride, float* out, std::size_t out_stride, std::uint32_t rows,
              std::uint32_t groups, std::uint32_t columns, const float* weight, float epsilon,
              thread_pool& pool);

}  // namespace weft::kernels
