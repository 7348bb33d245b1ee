#include <weft/kernels/cuda/top_k.hpp>

#include "cuda/block_memory.cuh"
#include "cuda/launch.cuh"
#include "cuda/selection_body.hpp"
#include "cuda/warp.cuh"

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 1024;
constexpr std::uint32_t block_warps = block_threads / warp_lanes;

__global__ void __launch_bounds__(block_threads) select_of_lists(const top_k_list* lists) {
  WEFT_SHARED(std::uint32_t[digits], histogram);
  WEFT_SHARED(key_search, found);
  WEFT_SHARED(segment_counts[block_warps], before);
  const top_k_list list = lists[blockIdx.x];
  const std::uint32_t wanted = list.wanted < list.count ? list.wanted : list.count;
  if (wanted == 0) return;
  const device_warp warp;
  const std::uint32_t own_warp = threadIdx.x / warp_lanes;
  key_search search{0, 0, wanted};
  for (std::uint32_t shift = 32; shift > 0;) {
    shift -= digit_bits;
    if (threadIdx.x < digits) histogram[threadIdx.x] = 0;
    __syncthreads();
    count_digits(threadIdx.x, block_threads, list.scores, list.count, search, shift,
                 [&](std::uint32_t bin) { atomicAdd(histogram + bin, 1U); });
    __syncthreads();
    if (own_warp == 0) {
      take_digit(warp, histogram, shift, search);
      if (threadIdx.x == 0) found = search;
    }
    __syncthreads();
    search = found;
  }
  const std::uint32_t first = segment_begin(list.count, block_warps, own_warp);
  const std::uint32_t end = segment_begin(list.count, block_warps, own_warp + 1);
  const segment_counts counts = count_segment(warp, list.scores, first, end, search.prefix);
  if (threadIdx.x % warp_lanes == 0) before[own_warp] = counts;
  __syncthreads();
  if (threadIdx.x == 0) add_up(before, block_warps);
  __syncthreads();
  write_segment(warp, list.scores, first, end, search.prefix, search.wanted, before[own_warp],
                [&](std::uint32_t place, std::uint32_t index) { list.out[place] = index; });
}

}  // namespace

cudaError_t top_k(const top_k_list* lists, std::uint32_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return launch_kernel<select_of_lists>({count, block_threads}, stream, lists);
}

}  // namespace weft::kernels::cuda
