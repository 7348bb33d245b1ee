// encode_rows of row_codec.hpp of this folder's parent, on a GPU.
#pragma once

#include <weft/kernels/cuda/block_work.hpp>
#include <weft/kernels/dtype.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// The bytes are those of the CPU's form. `items`: `count` of them in device memory, none with more than
// `most_rows` rows. cudaErrorInvalidValue for a head_dim of 0 or above 4096. Runs behind `stream`; allocates
// nothing and does not wait, so a graph can capture it.
cudaError_t encode_rows(const rows_to_encode* items, std::uint32_t count, std::uint32_t most_rows,
                        std::uint32_t head_dim, dtype type, cudaStream_t stream);

}  // namespace weft::kernels::cuda
