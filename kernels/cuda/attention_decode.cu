#include <weft/kernels/cuda/attention_decode.hpp>

#include "cuda/attention_decode_body.hpp"
#include "cuda/block_memory.cuh"
#include "cuda/launch.cuh"
#include "cuda/warp.cuh"

#include <algorithm>
#include <bit>

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 128;
constexpr std::uint32_t block_warps = block_threads / warp_lanes;

template <class Elements, int Group>
__global__ void __launch_bounds__(block_threads)
    attend_pieces(decode_work work, float factor, std::uint32_t head_dim) {
  const std::uint32_t index = blockIdx.x * block_warps + threadIdx.x / warp_lanes;
  if (index >= work.piece_count) return;
  const decode_piece piece = work.pieces[index];
  float* const partial = work.scratch + std::size_t{index} * Group * partial_floats(head_dim);
  attend_piece<Elements, Group>(device_warp(), work.heads[piece.head], piece.first_row, piece.rows, factor,
                                head_dim, partial);
}

// Enough for the channels of any head, and for parts of the pieces where those are fewer.
constexpr std::uint32_t merge_threads = largest_head_dim;
constexpr std::uint32_t merge_warps = merge_threads / warp_lanes;

// For every thread of the block.
__device__ float largest_maximum(const float* results, std::size_t stride, std::uint32_t pieces) {
  WEFT_SHARED(float[merge_warps], of_warps);
  float largest = hidden_score;
  for (std::uint32_t i = threadIdx.x; i < pieces; i += merge_threads)
    largest = fmaxf(largest, results[i * stride]);
  const float of_warp = device_warp().max_over_teams(1, largest);
  if (threadIdx.x % warp_lanes == 0) of_warps[threadIdx.x / warp_lanes] = of_warp;
  __syncthreads();
  for (const float each : of_warps)
    largest = fmaxf(largest, each);
  return largest;
}

// A block takes a query head; a thread one channel of every `parts`-th piece, whose parts are added in order.
__global__ void __launch_bounds__(merge_threads)
    merge_pieces(decode_work work, std::uint32_t head_dim, std::uint32_t channels) {
  WEFT_SHARED(float[merge_threads], sums);
  WEFT_SHARED(float[merge_threads], weights);
  const std::uint32_t first = work.first_piece[blockIdx.x];
  const std::uint32_t pieces = work.first_piece[blockIdx.x + 1] - first;
  const std::size_t stride = std::size_t{gridDim.y} * partial_floats(head_dim);
  const float* const results = work.scratch + first * stride + blockIdx.y * partial_floats(head_dim);
  const float largest = largest_maximum(results, stride, pieces);

  const std::uint32_t parts = merge_threads / channels;
  const std::uint32_t channel = threadIdx.x % channels;
  const bool present = channel < head_dim;
  float sum = 0.0F;
  float weight = 0.0F;
  for (std::uint32_t i = threadIdx.x / channels; i < pieces; i += parts) {
    const float* const piece = results + i * stride;
    const float factor = power_of_two(piece[0] - largest);
    weight += piece[1] * factor;
    if (present) sum += piece[2 + channel] * factor;
  }
  sums[threadIdx.x] = sum;
  weights[threadIdx.x] = weight;
  __syncthreads();
  if (threadIdx.x >= head_dim) return;
  for (std::uint32_t part = 1; part < parts; ++part) {
    sum += sums[part * channels + channel];
    weight += weights[part * channels + channel];
  }
  work.heads[blockIdx.x].out[blockIdx.y * head_dim + channel] = weight > 0 ? sum / weight : 0.0F;
}

// Threads beside one another read channels beside one another; whole warps have none but their own piece.
std::uint32_t channels_of(std::uint32_t head_dim) {
  return std::max(warp_lanes, std::bit_ceil(head_dim));
}

template <class Elements, int Group>
cudaError_t launch(const attention_shape& shape, const decode_work& work, cudaStream_t stream) {
  const std::uint32_t blocks = (work.piece_count + block_warps - 1) / block_warps;
  if (blocks > 0) {
    const auto error = launch_kernel<attend_pieces<Elements, Group>>({blocks, block_threads}, stream, work,
                                                                     shape.scale * log2_e, shape.head_dim);
    if (error != cudaSuccess) return error;
  }
  return launch_kernel<merge_pieces>({{work.head_count, Group}, merge_threads}, stream, work, shape.head_dim,
                                     channels_of(shape.head_dim));
}

template <class Elements>
cudaError_t launch_group(const attention_shape& shape, const decode_work& work, cudaStream_t stream) {
  switch (shape.query_heads / shape.kv_heads) {
    case 1:
      return launch<Elements, 1>(shape, work, stream);
    case 2:
      return launch<Elements, 2>(shape, work, stream);
    case 3:
      return launch<Elements, 3>(shape, work, stream);
    case 4:
      return launch<Elements, 4>(shape, work, stream);
    case 5:
      return launch<Elements, 5>(shape, work, stream);
    case 6:
      return launch<Elements, 6>(shape, work, stream);
    case 7:
      return launch<Elements, 7>(shape, work, stream);
    case 8:
      return launch<Elements, 8>(shape, work, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t attention_decode(const attention_shape& shape, const decode_work& work, cudaStream_t stream) {
  const bool whole_groups = shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0;
  if (!whole_groups || shape.head_dim == 0 || shape.head_dim % lane_elements != 0 ||
      shape.head_dim > largest_head_dim) {
    return cudaErrorInvalidValue;
  }
  if (work.head_count == 0) return cudaSuccess;
  switch (shape.kv_dtype) {
    case dtype::bf16:
      return launch_group<bf16_elements>(shape, work, stream);
    case dtype::f16:
      return launch_group<f16_elements>(shape, work, stream);
    default:
      return launch_group<f32_elements>(shape, work, stream);
  }
}

}  // namespace weft::kernels::cuda
