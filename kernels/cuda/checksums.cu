#include <weft/kernels/cuda/checksums.hpp>

#include "cuda/checksum_body.hpp"
#include "cuda/launch.cuh"
#include "cuda/warp.cuh"

namespace weft::kernels::cuda {

namespace {

// Few warps together, so that few parts spread over many multiprocessors.
constexpr std::uint32_t block_threads = 64;
constexpr std::uint32_t block_warps = block_threads / warp_lanes;

__global__ void __launch_bounds__(block_threads)
    check_parts(const checked_part* parts, std::uint32_t count, std::uint64_t* out) {
  const std::uint32_t index = blockIdx.x * block_warps + threadIdx.x / warp_lanes;
  if (index >= count) return;
  const checked_part part = parts[index];
  const std::uint64_t sum =
      checksum_of(device_warp(), reinterpret_cast<const std::uint64_t*>(part.data), part.words);
  if (threadIdx.x % warp_lanes == 0) out[index] = sum;
}

}  // namespace

cudaError_t checksums(const checked_part* parts, std::uint32_t count, std::uint64_t* out,
                      cudaStream_t stream) {
  const std::uint32_t blocks = count / block_warps + (count % block_warps != 0 ? 1 : 0);
  if (blocks == 0) return cudaSuccess;
  return launch_kernel<check_parts>({blocks, block_threads}, stream, parts, count, out);
}

}  // namespace weft::kernels::cuda
