#include <weft/kernels/cuda/band_rows.hpp>
#include <weft/kernels/cuda/row_selection.hpp>

#include "cuda/block_memory.cuh"
#include "cuda/launch.cuh"
#include "cuda/row_selection_body.hpp"
#include "cuda/warp.cuh"

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 256;
constexpr std::uint32_t block_warps = block_threads / warp_lanes;
static_assert(block_threads == digits && most_cuts <= 2 * block_warps);

__device__ std::uint32_t own_warp() {
  return blockIdx.x * block_warps + threadIdx.x / warp_lanes;
}

__device__ const float* scores_of(const selection_work& work, const score_piece& piece) {
  return work.lists[piece.list].scores + piece.first;
}

__device__ std::uint32_t* ties_of(const selection_work& work) {
  return work.scratch + selection_bins;
}

__global__ void __launch_bounds__(block_threads) count_pieces(selection_work work) {
  if (own_warp() >= work.piece_count) return;
  const score_piece piece = work.pieces[own_warp()];
  count_keys(device_warp(), scores_of(work, piece), piece.count,
             [&](std::uint32_t bin, std::uint32_t many) { atomicAdd(work.scratch + bin, many); });
}

__global__ void __launch_bounds__(block_threads) find_cuts(selection_work work) {
  WEFT_SHARED(std::uint32_t[digits], upper);
  sum_bins(threadIdx.x, work.scratch, upper);
  __syncthreads();
  for (std::uint32_t cut = threadIdx.x / warp_lanes; cut < work.cut_count; cut += block_warps) {
    const auto found =
        find_cut<selection_cut>(device_warp(), work.scratch, upper, work.scores, work.wanted[cut]);
    if (threadIdx.x % warp_lanes == 0) work.cuts[cut] = found;
  }
}

__global__ void __launch_bounds__(block_threads) count_ties_of_pieces(selection_work work) {
  if (own_warp() >= work.piece_count) return;
  const score_piece piece = work.pieces[own_warp()];
  count_ties(device_warp(), scores_of(work, piece), piece.count, work.cuts, work.cut_count,
             ties_of(work) + own_warp(), work.piece_count);
}

// A block has one warp, for one cut.
__global__ void __launch_bounds__(warp_lanes) sum_ties(selection_work work) {
  sum_before(device_warp(), ties_of(work) + std::size_t{blockIdx.x} * work.piece_count, work.piece_count);
}

__global__ void __launch_bounds__(block_threads) mark_pieces(selection_work work) {
  if (own_warp() >= work.piece_count) return;
  const score_piece piece = work.pieces[own_warp()];
  mark_bands(device_warp(), scores_of(work, piece), piece.count, work.cuts, work.cut_count,
             ties_of(work) + own_warp(), work.piece_count, no_band,
             work.lists[piece.list].bands + piece.first);
}

__global__ void __launch_bounds__(block_threads)
    count_items(const band_rows* items, std::uint32_t count, std::uint32_t* counts) {
  if (own_warp() >= count) return;
  const band_rows item = items[own_warp()];
  const std::uint32_t rows = count_rows_of_band(device_warp(), item);
  if (threadIdx.x % warp_lanes == 0) counts[own_warp()] = rows;
}

template <std::size_t Bytes>
__global__ void __launch_bounds__(block_threads)
    gather_items(const band_rows* items, std::uint32_t count, std::uint32_t row_bytes) {
  if (own_warp() >= count) return;
  const band_rows item = items[own_warp()];
  gather_rows_of_band<Bytes>(device_warp(), item, row_bytes);
}

std::uint32_t blocks_for(std::uint32_t warps) {
  return warps / block_warps + (warps % block_warps != 0 ? 1 : 0);
}

}  // namespace

cudaError_t select_bands(const selection_work& work, cudaStream_t stream) {
  if (work.cut_count == 0 || work.cut_count > most_cuts) return cudaErrorInvalidValue;
  const auto cleared =
      cudaMemsetAsync(work.scratch, 0, std::size_t{selection_bins} * sizeof(std::uint32_t), stream);
  if (cleared != cudaSuccess) return cleared;
  if (work.piece_count == 0) return launch_kernel<find_cuts>({1, block_threads}, stream, work);
  const launch_shape pieces{blocks_for(work.piece_count), block_threads};
  cudaError_t error = launch_kernel<count_pieces>(pieces, stream, work);
  if (error == cudaSuccess) error = launch_kernel<find_cuts>({1, block_threads}, stream, work);
  if (error == cudaSuccess) error = launch_kernel<count_ties_of_pieces>(pieces, stream, work);
  if (error == cudaSuccess) error = launch_kernel<sum_ties>({work.cut_count, warp_lanes}, stream, work);
  if (error == cudaSuccess) error = launch_kernel<mark_pieces>(pieces, stream, work);
  return error;
}

cudaError_t count_band_rows(const band_rows* items, std::uint32_t count, std::uint32_t* counts,
                            cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return launch_kernel<count_items>({blocks_for(count), block_threads}, stream, items, count, counts);
}

cudaError_t gather_band_rows(const band_rows* items, std::uint32_t count, std::uint32_t row_bytes,
                             cudaStream_t stream) {
  if (row_bytes == 0 || row_bytes % 2 != 0) return cudaErrorInvalidValue;
  if (count == 0) return cudaSuccess;
  const launch_shape blocks{blocks_for(count), block_threads};
  if (row_bytes % 16 == 0) return launch_kernel<gather_items<16>>(blocks, stream, items, count, row_bytes);
  if (row_bytes % 4 == 0) return launch_kernel<gather_items<4>>(blocks, stream, items, count, row_bytes);
  return launch_kernel<gather_items<2>>(blocks, stream, items, count, row_bytes);
}

}  // namespace weft::kernels::cuda
