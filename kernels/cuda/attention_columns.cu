#include <weft/kernels/cuda/attention_prefill.hpp>

#include "cuda/attention_columns_body.hpp"
#include "cuda/block_memory.cuh"
#include "cuda/launch.cuh"
#include "cuda/warp.cuh"

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t largest_channels = 256;

// A block takes a tile of rows and one query head.
template <class Elements, std::uint32_t Channels, bool Sums>
__global__ void __launch_bounds__(tile_threads)
    reduce_tiles(column_work work, std::uint32_t group, std::uint32_t head_dim, float factor) {
  using tile_type = row_tile<Channels, false>;
  WEFT_SHARED(column_memory<Channels>, memory);
  const std::uint32_t head = blockIdx.y;
  const prefill_run run = work.runs[head / group];
  const std::uint64_t first = std::uint64_t{blockIdx.x} * tile_type::rows;
  if (first >= run.rows) return;
  const auto first_row = static_cast<std::uint32_t>(first);
  const std::uint32_t count = run.rows - first_row < tile_type::rows ? run.rows - first_row : tile_type::rows;
  stage_rows<Elements>(threadIdx.x, run, first_row, count, head_dim, memory.tile);
  __syncthreads();
  const row_lines<prefill_queries> lines{work.queries, head, head_dim, work.queries.rows, work.log_weights};
  const device_warp warp;
  const std::uint32_t own_warp = threadIdx.x / warp_lanes;
  tile_columns<Elements, Channels, Sums, device_warp> columns(warp, factor, head_dim);
  for (std::uint32_t line = own_warp * warp_lines; line < lines.line_count; line += tile_warps * warp_lines)
    columns.add(lines, line, work.log_sums + head, gridDim.y, memory.tile, count);
  columns.store(memory.columns[own_warp]);
  __syncthreads();
  if (threadIdx.x < count)
    put_column<Sums>(memory, threadIdx.x, work.replaces,
                     work.out + head * work.out_stride + first + threadIdx.x);
}

template <class Elements, bool Sums>
cudaError_t launch(const attention_shape& shape, const column_work& work, cudaStream_t stream) {
  const std::uint32_t rows = shape.head_dim <= 128 ? row_tile<128, false>::rows : row_tile<256, false>::rows;
  const launch_shape blocks{dim3((work.most_rows - 1) / rows + 1, shape.query_heads), tile_threads};
  const std::uint32_t group = shape.query_heads / shape.kv_heads;
  const float factor = shape.scale * log2_e;
  if (shape.head_dim <= 64)
    return launch_kernel<reduce_tiles<Elements, 64, Sums>>(blocks, stream, work, group, shape.head_dim,
                                                           factor);
  if (shape.head_dim <= 128)
    return launch_kernel<reduce_tiles<Elements, 128, Sums>>(blocks, stream, work, group, shape.head_dim,
                                                            factor);
  return launch_kernel<reduce_tiles<Elements, 256, Sums>>(blocks, stream, work, group, shape.head_dim,
                                                          factor);
}

template <class Elements>
cudaError_t launch_statistic(const attention_shape& shape, const column_work& work,
                             column_statistic statistic, cudaStream_t stream) {
  if (statistic == column_statistic::sum) return launch<Elements, true>(shape, work, stream);
  return launch<Elements, false>(shape, work, stream);
}

}  // namespace

cudaError_t attention_columns(const attention_shape& shape, const column_work& work,
                              column_statistic statistic, cudaStream_t stream) {
  constexpr std::uint32_t most_heads = 65535;  // of a grid's second dimension
  if (shape.kv_heads == 0 || shape.query_heads == 0 || shape.query_heads % shape.kv_heads != 0 ||
      shape.query_heads > most_heads || shape.kv_dtype == dtype::f32 || shape.head_dim == 0 ||
      shape.head_dim % lane_elements != 0 || shape.head_dim > largest_channels)
    return cudaErrorInvalidValue;
  if (work.most_rows == 0 || work.queries.rows == 0) return cudaSuccess;
  if (shape.kv_dtype == dtype::bf16) return launch_statistic<bf16_elements>(shape, work, statistic, stream);
  return launch_statistic<f16_elements>(shape, work, statistic, stream);
}

}  // namespace weft::kernels::cuda
