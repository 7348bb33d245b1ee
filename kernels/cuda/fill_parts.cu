#include <weft/kernels/cuda/band_rows.hpp>

#include "cuda/fill_parts_body.hpp"
#include "cuda/launch.cuh"
#include "cuda/warp.cuh"

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 256;
constexpr std::uint32_t block_warps = block_threads / warp_lanes;

__global__ void __launch_bounds__(block_threads) fill_items(const filled_part* items, std::uint32_t count) {
  const std::uint32_t index = blockIdx.x * block_warps + threadIdx.x / warp_lanes;
  if (index < count) fill_part(device_warp(), items[index]);
}

}  // namespace

cudaError_t fill_parts(const filled_part* items, std::uint32_t count, cudaStream_t stream) {
  const std::uint32_t blocks = count / block_warps + (count % block_warps != 0 ? 1 : 0);
  if (blocks == 0) return cudaSuccess;
  return launch_kernel<fill_items>({blocks, block_threads}, stream, items, count);
}

}  // namespace weft::kernels::cuda
