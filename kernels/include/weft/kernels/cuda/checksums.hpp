// Checksums of parts of blocks, on a GPU: XXH3 with 64 bits and seed 0, as the block format has them.
#pragma once

#include <weft/kernels/cuda/block_work.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// out[i] is that of parts[i]; both lie in device memory. A warp each: one part is read at what one warp
// reads, so many of them are to be checked at once. Runs behind `stream`; allocates nothing and does not
// wait, so a graph can capture it.
cudaError_t checksums(const checked_part* parts, std::uint32_t count, std::uint64_t* out,
                      cudaStream_t stream);

}  // namespace weft::kernels::cuda
