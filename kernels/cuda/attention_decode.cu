#include <weft/kernels/cuda/attention_decode.hpp>

#include "cuda/attention_decode_body.hpp"
#include "cuda/launch.cuh"
#include "cuda/warp.cuh"

#include <algorithm>

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

// A block takes the query heads of one head, a thread some elements of them.
__global__ void merge_pieces(decode_work work, std::uint32_t group, std::uint32_t head_dim) {
  const std::uint32_t first = work.first_piece[blockIdx.x];
  const std::uint32_t pieces = work.first_piece[blockIdx.x + 1] - first;
  const std::size_t stride = std::size_t{group} * partial_floats(head_dim);
  for (std::uint32_t i = threadIdx.x; i < group * head_dim; i += blockDim.x) {
    const float* const results = work.scratch + first * stride + i / head_dim * partial_floats(head_dim);
    work.heads[blockIdx.x].out[i] = merged_element(results, stride, pieces, i % head_dim);
  }
}

template <class Elements, int Group>
cudaError_t launch(const attention_shape& shape, const decode_work& work, cudaStream_t stream) {
  const std::uint32_t blocks = (work.piece_count + block_warps - 1) / block_warps;
  if (blocks > 0) {
    const auto error = launch_kernel<attend_pieces<Elements, Group>>({blocks, block_threads}, stream, work,
                                                                     shape.scale * log2_e, shape.head_dim);
    if (error != cudaSuccess) return error;
  }
  return launch_kernel<merge_pieces>({work.head_count, block_threads}, stream, work, std::uint32_t{Group},
                                     shape.head_dim);
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
