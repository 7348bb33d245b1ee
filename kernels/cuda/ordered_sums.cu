#include <weft/kernels/cuda/ordered_sums.hpp>

#include "cuda/launch.cuh"
#include "cuda/ordered_sums_body.hpp"

#include <algorithm>

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 256;
constexpr std::size_t most_blocks = 1U << 16;

__global__ void __launch_bounds__(block_threads)
    sum_values(const float* values, std::size_t stride, std::uint32_t ranks, std::size_t count, float* out) {
  const std::size_t step = std::size_t{gridDim.x} * block_threads;
  for (std::size_t i = std::size_t{blockIdx.x} * block_threads + threadIdx.x; i < count; i += step)
    out[i] = ordered_sum(values, stride, ranks, i);
}

}  // namespace

cudaError_t sum_in_order(const float* values, std::size_t stride, std::uint32_t ranks, std::size_t count,
                         float* out, cudaStream_t stream) {
  if (ranks == 0) return cudaErrorInvalidValue;
  const auto blocks =
      static_cast<unsigned>(std::min((count + block_threads - 1) / block_threads, most_blocks));
  if (blocks == 0) return cudaSuccess;
  return launch_kernel<sum_values>({blocks, block_threads}, stream, values, stride, ranks, count, out);
}

}  // namespace weft::kernels::cuda
