// What CUDA's runtime keeps of a process.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

namespace weft::kernels::cuda_on_host {

struct runtime_state {
  cudaError_t error = cudaSuccess;
  std::string report;
  std::uint64_t seed = 1;
};

runtime_state& the_runtime();

}  // namespace weft::kernels::cuda_on_host
