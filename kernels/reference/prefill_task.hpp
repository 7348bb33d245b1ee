// What a thread block of the GPU's prefill attention does for one task, on the host: its threads and warps
// one after the other between barriers.
#pragma once

#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/attention_plan.hpp>

#include "cuda/attention_prefill_body.hpp"
#include "reference/host_warp.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace weft::kernels::reference {

// `run` is the task's. `partial`: of the task's first line. Without `Values`, sums alone.
template <class Elements, std::uint32_t Channels, bool Values, class Queries, class Run>
void run_prefill_task(const Queries& queries, const attention_shape& shape, const Run& run,
                      const cuda::attention_task& task, float* partial) {
  using tile_type = cuda::row_tile<Channels, Values>;
  const std::uint32_t group = shape.query_heads / shape.kv_heads;
  const cuda::head_lines<Queries> lines{queries, task.head * group, group, shape.head_dim,
                                        queries.rows * group};
  const std::uint32_t last = std::min(task.first_line + cuda::tile_lines, lines.line_count) - 1;
  const cuda::line_bounds bounds = cuda::bounds_of(queries, task.first_line / group, last / group + 1);
  const host_warp warp;
  std::vector<cuda::line_softmax<Elements, Channels, Values, host_warp>> warps;
  for (std::uint32_t i = 0; i < cuda::tile_warps; ++i)
    warps.emplace_back(warp, lines, task.first_line + i * cuda::warp_lines, shape.scale * cuda::log2_e,
                       shape.head_dim);
  const auto tile = std::make_unique<tile_type>();
  for (std::uint32_t done = 0; done < task.rows; done += tile_type::rows) {
    const std::uint32_t first = task.first_row + done;
    const std::uint32_t count = std::min(task.rows - done, tile_type::rows);
    bool seen = false;
    for (std::uint32_t i = 0; i < count; ++i)
      seen = seen || bounds.may_see(run.positions[first + i], run.segments[first + i]);
    if (!seen) continue;
    for (std::uint32_t thread = 0; thread < cuda::tile_threads; ++thread)
      cuda::stage_rows<Elements>(thread, run, first, count, shape.head_dim, *tile);
    for (auto& own : warps)
      own.attend(*tile, count);
  }
  for (const auto& own : warps)
    own.store(task.first_line, partial);
}

}  // namespace weft::kernels::reference
