#include <weft/kernels/cuda/attention_prefill.hpp>

#include "cuda/attention_decode_body.hpp"
#include "cuda/attention_prefill_body.hpp"
#include "cuda/block_memory.cuh"
#include "cuda/launch.cuh"
#include "cuda/warp.cuh"

namespace weft::kernels::cuda {

namespace {

struct lines_of_heads {
  std::uint32_t query_heads;
  std::uint32_t group;
  std::uint32_t head_dim;
};

template <class Elements, std::uint32_t Channels, bool Values>
__global__ void __launch_bounds__(tile_threads)
    attend_tasks(prefill_work work, lines_of_heads heads, float factor) {
  using tile_type = row_tile<Channels, Values>;
  WEFT_SHARED(tile_type, tile);
  const attention_task task = work.tasks[blockIdx.x];
  const prefill_run run = work.heads[task.head].runs[task.run];
  const head_lines<prefill_queries> lines{work.queries, task.head * heads.group, heads.group, heads.head_dim,
                                          work.queries.rows * heads.group};
  const std::uint32_t left = lines.line_count - task.first_line;
  const std::uint32_t last_line = task.first_line + (left < tile_lines ? left : tile_lines) - 1;
  const line_bounds bounds =
      bounds_of(work.queries, task.first_line / heads.group, last_line / heads.group + 1);
  const device_warp warp;
  line_softmax<Elements, Channels, Values, device_warp> own(
      warp, lines, task.first_line + threadIdx.x / warp_lanes * warp_lines, factor, heads.head_dim);
  for (std::uint32_t done = 0; done < task.rows; done += tile_type::rows) {
    const std::uint32_t first = task.first_row + done;
    const std::uint32_t count = task.rows - done < tile_type::rows ? task.rows - done : tile_type::rows;
    const bool seen = threadIdx.x < count &&
                      bounds.may_see(run.positions[first + threadIdx.x], run.segments[first + threadIdx.x]);
    // Also for those that still read the tile before this one.
    if (__syncthreads_or(seen) == 0) continue;
    stage_rows<Elements>(threadIdx.x, run, first, count, heads.head_dim, tile);
    __syncthreads();
    own.attend(tile, count);
  }
  const std::size_t floats = line_floats(Values ? heads.head_dim : 0);
  own.store(task.first_line, work.scratch + std::size_t{blockIdx.x} * tile_lines * floats);
}

// A block takes the lines of one merge, a thread some elements of them.
__global__ void __launch_bounds__(tile_threads)
    merge_values(prefill_work work, lines_of_heads heads, float* out, std::size_t out_stride) {
  const attention_merge merge = work.merges[blockIdx.x];
  const std::size_t floats = line_floats(heads.head_dim);
  const std::uint32_t left = work.queries.rows * heads.group - merge.first_line;
  const std::uint32_t lines = left < tile_lines ? left : tile_lines;
  for (std::uint32_t i = threadIdx.x; i < lines * heads.head_dim; i += blockDim.x) {
    const std::uint32_t line = i / heads.head_dim;
    const std::uint32_t channel = i % heads.head_dim;
    const float* const results = work.scratch + (std::size_t{merge.first_task} * tile_lines + line) * floats;
    const std::uint32_t at = merge.first_line + line;
    const std::size_t head = merge.head * heads.group + at % heads.group;
    out[at / heads.group * out_stride + head * heads.head_dim + channel] =
        merged_element(results, tile_lines * floats, merge.tasks, channel);
  }
}

__global__ void __launch_bounds__(tile_lines)
    merge_sums(prefill_work work, lines_of_heads heads, bool merge_before, float* out) {
  const attention_merge merge = work.merges[blockIdx.x];
  const std::uint32_t line = merge.first_line + threadIdx.x;
  if (line >= work.queries.rows * heads.group) return;
  const std::size_t floats = line_floats(0);
  const float* const results =
      work.scratch + (std::size_t{merge.first_task} * tile_lines + threadIdx.x) * floats;
  float& sum = out[std::size_t{line / heads.group} * heads.query_heads + merge.head * heads.group +
                   line % heads.group];
  sum =
      merged_log_sum(results, tile_lines * floats, merge.tasks, merge_before ? sum : -__builtin_huge_valf());
}

template <class Elements, bool Values>
cudaError_t launch_tasks(const prefill_work& work, const lines_of_heads& heads, float factor,
                         cudaStream_t stream) {
  if (work.task_count == 0) return cudaSuccess;
  const launch_shape blocks{work.task_count, tile_threads};
  if (heads.head_dim <= 64)
    return launch_kernel<attend_tasks<Elements, 64, Values>>(blocks, stream, work, heads, factor);
  if (heads.head_dim <= 128)
    return launch_kernel<attend_tasks<Elements, 128, Values>>(blocks, stream, work, heads, factor);
  return launch_kernel<attend_tasks<Elements, 256, Values>>(blocks, stream, work, heads, factor);
}

bool fits(const attention_shape& shape) {
  return shape.kv_heads > 0 && shape.query_heads > 0 && shape.query_heads % shape.kv_heads == 0 &&
         shape.kv_dtype != dtype::f32 && shape.head_dim > 0 && shape.head_dim % lane_elements == 0 &&
         shape.head_dim <= largest_head_dim;
}

template <bool Values>
cudaError_t attend(const attention_shape& shape, const prefill_work& work, cudaStream_t stream) {
  const lines_of_heads heads{shape.query_heads, shape.query_heads / shape.kv_heads, shape.head_dim};
  const float factor = shape.scale * log2_e;
  if (shape.kv_dtype == dtype::bf16) return launch_tasks<bf16_elements, Values>(work, heads, factor, stream);
  return launch_tasks<f16_elements, Values>(work, heads, factor, stream);
}

}  // namespace

cudaError_t attention_prefill(const attention_shape& shape, const prefill_work& work, float* out,
                              std::size_t out_stride, cudaStream_t stream) {
  if (!fits(shape)) return cudaErrorInvalidValue;
  if (const auto error = attend<true>(shape, work, stream); error != cudaSuccess) return error;
  const lines_of_heads heads{shape.query_heads, shape.query_heads / shape.kv_heads, shape.head_dim};
  if (work.merge_count == 0) return cudaSuccess;
  return launch_kernel<merge_values>({work.merge_count, tile_threads}, stream, work, heads, out, out_stride);
}

cudaError_t attention_log_sums(const attention_shape& shape, const prefill_work& work, bool merge, float* out,
                               cudaStream_t stream) {
  if (!fits(shape)) return cudaErrorInvalidValue;
  if (const auto error = attend<false>(shape, work, stream); error != cudaSuccess) return error;
  const lines_of_heads heads{shape.query_heads, shape.query_heads / shape.kv_heads, shape.head_dim};
  if (work.merge_count == 0) return cudaSuccess;
  return launch_kernel<merge_sums>({work.merge_count, tile_lines}, stream, work, heads, merge, out);
}

}  // namespace weft::kernels::cuda
