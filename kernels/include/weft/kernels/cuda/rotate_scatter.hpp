// rotate_scatter.hpp of this folder's parent, on a GPU.
#pragma once

#include <weft/kernels/cuda/scatter_rows.hpp>
#include <weft/kernels/dtype.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels::cuda {

// Keys are rotated in f32 and rounded to `type` once, values are copied, or decoded and rounded: the bytes
// are those of the CPU's form. `items`: `count` of them in device memory, none with more than `most_rows`
// rows. Runs behind `stream`; allocates nothing and does not wait, so a graph can capture it.
cudaError_t rotate_scatter(const scatter_rows* items, std::uint32_t count, std::uint32_t most_rows,
                           std::uint32_t head_dim, dtype type, cudaStream_t stream);

}  // namespace weft::kernels::cuda
