#include <weft/kernels/cuda/block_scores.hpp>

#include "cuda/block_memory.cuh"
#include "cuda/block_scores_body.hpp"
#include "cuda/launch.cuh"

#include <algorithm>

namespace weft::kernels::cuda {

namespace {

__global__ void __launch_bounds__(score_threads) sum_pieces(score_work work) {
  WEFT_SHARED_OF_LAUNCH(float, memory);
  const score_task task = work.tasks[blockIdx.x];
  const softmax_blocks item = work.items[task.item];
  const piece_sums<softmax_blocks> piece(item, task, memory);
  piece.stage(threadIdx.x);
  __syncthreads();
  piece.multiply(threadIdx.x);
  __syncthreads();
  piece.find_maxima(threadIdx.x);
  __syncthreads();
  piece.sum(threadIdx.x, work.scratch + work.first_maximum[task.item]);
}

__global__ void __launch_bounds__(score_threads) join_lines(score_work work) {
  WEFT_SHARED(float[2 * score_threads], memory);
  const score_task task = work.lines[blockIdx.x];
  const softmax_blocks item = work.items[task.item];
  const joined_line<softmax_blocks> line(item, task.first_line, work.scratch + work.first_maximum[task.item],
                                         memory);
  line.find_maximum(threadIdx.x);
  __syncthreads();
  line.scale(threadIdx.x);
  __syncthreads();
  line.total(threadIdx.x);
}

template <bool Boxes>
__global__ void __launch_bounds__(score_threads) score_vectors_of(const vector_scores* items) {
  WEFT_SHARED(float[most_score_channels * lines_together], staged);
  const vector_scores item = items[blockIdx.z];
  const std::uint32_t first_line = blockIdx.y * lines_together;
  if (first_line >= item.lines) return;
  const std::uint32_t channels = Boxes ? item.vectors.channels / 2 : item.vectors.channels;
  stage_queries(threadIdx.x, score_threads, item.queries, item.lines, channels, first_line, staged);
  __syncthreads();
  const std::uint32_t vector = blockIdx.x * score_threads + threadIdx.x;
  if (vector < item.vectors.vectors) score_vector<Boxes>(item, vector, first_line, staged);
}

template <bool Boxes>
cudaError_t score_items(const vector_scores* items, std::uint32_t count, const score_limits& limits,
                        cudaStream_t stream) {
  constexpr std::uint32_t most_of_grid = 65535;  // in y and z
  const std::uint32_t line_groups = (limits.most_lines + lines_together - 1) / lines_together;
  if (limits.most_channels > most_score_channels || line_groups > most_of_grid) return cudaErrorInvalidValue;
  if (limits.most_vectors == 0 || line_groups == 0) return cudaSuccess;
  const std::uint32_t parts = (limits.most_vectors - 1) / score_threads + 1;
  for (std::uint32_t first = 0; first < count; first += most_of_grid) {
    const dim3 grid(parts, line_groups, std::min(count - first, most_of_grid));
    const auto error = launch_kernel<score_vectors_of<Boxes>>({grid, score_threads}, stream, items + first);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t softmax_block_sums(const score_work& work, cudaStream_t stream) {
  if (work.task_count > 0) {
    const auto error =
        launch_kernel<sum_pieces>({work.task_count, score_threads, work.shared_bytes}, stream, work);
    if (error != cudaSuccess) return error;
  }
  if (work.line_count == 0) return cudaSuccess;
  return launch_kernel<join_lines>({work.line_count, score_threads}, stream, work);
}

cudaError_t vector_products(const vector_scores* items, std::uint32_t count, const score_limits& limits,
                            cudaStream_t stream) {
  return score_items<false>(items, count, limits, stream);
}

cudaError_t box_bounds(const vector_scores* items, std::uint32_t count, const score_limits& limits,
                       cudaStream_t stream) {
  return score_items<true>(items, count, limits, stream);
}

}  // namespace weft::kernels::cuda
