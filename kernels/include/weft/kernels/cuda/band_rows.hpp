// Rows of one band put together, on a GPU: what a block of several bands is written from.
#pragma once

#include <weft/kernels/cuda/block_work.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// counts[i]: rows of items[i]'s band. Reads only `bands`, `rows` and `band`. Runs behind `stream`, as the
// others: they allocate nothing and do not wait, so a graph can capture them.
cudaError_t count_band_rows(const band_rows* items, std::uint32_t count, std::uint32_t* counts,
                            cudaStream_t stream);

// Copies keys, values and positions of the band's rows, in their order. `row_bytes`: a multiple of 2, else
// cudaErrorInvalidValue; where it is one of 16 or 4, so is `row_stride_bytes`.
cudaError_t gather_band_rows(const band_rows* items, std::uint32_t count, std::uint32_t row_bytes,
                             cudaStream_t stream);

// A warp for each item; none of them overlap.
cudaError_t fill_parts(const filled_part* items, std::uint32_t count, cudaStream_t stream);

}  // namespace weft::kernels::cuda
