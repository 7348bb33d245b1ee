// top_k.hpp of this folder's parent, on a GPU: many lists at once, a thread block each.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels::cuda {

struct top_k_list {
  const float* scores = nullptr;
  std::uint32_t count = 0;
  std::uint32_t wanted = 0;      // at most `count`; of more, all are found
  std::uint32_t* out = nullptr;  // [wanted] indices, ascending
};

// Exactly what the CPU's finds: of equal scores the lower index wins (-0 equals 0); NaN loses against
// everything. `lists`: `count` of them in device memory. Runs behind `stream`; allocates nothing and does
// not wait, so a graph can capture it.
cudaError_t top_k(const top_k_list* lists, std::uint32_t count, cudaStream_t stream);

}  // namespace weft::kernels::cuda
