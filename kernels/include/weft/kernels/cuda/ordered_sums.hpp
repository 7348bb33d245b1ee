// Sums of several ranks' values in the order of the ranks, on a GPU: the same bits on every rank.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// out[i] = values[i] + values[stride + i] + ... over `ranks` ranks, at least one. `out` may be one of the
// inputs. Runs behind `stream`; allocates nothing and does not wait, so a graph can capture it.
cudaError_t sum_in_order(const float* values, std::size_t stride, std::uint32_t ranks, std::size_t count,
                         float* out, cudaStream_t stream);

}  // namespace weft::kernels::cuda
