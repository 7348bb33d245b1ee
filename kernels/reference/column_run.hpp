// What the thread blocks of the GPU's attention by columns do for one run of rows and one query head, on the
// host: threads and warps one after the other between barriers.
#pragma once

#include "cuda/attention_columns_body.hpp"
#include "reference/host_warp.hpp"

#include <algorithm>
#include <memory>

namespace weft::kernels::reference {

// log_sums[line * heads], of this query head. `out`: of the run's first row, with what is there or not.
template <class Elements, std::uint32_t Channels, bool Sums, class Lines, class Run>
void reduce_run(const Lines& lines, const Run& run, const float* log_sums, std::uint32_t heads, float scale,
                float* out, bool replaces = false) {
  using tile_type = cuda::row_tile<Channels, false>;
  const host_warp warp;
  const auto memory = std::make_unique<cuda::column_memory<Channels>>();
  for (std::uint32_t first = 0; first < run.rows; first += std::min(tile_type::rows, run.rows - first)) {
    const std::uint32_t count = std::min(run.rows - first, tile_type::rows);
    for (std::uint32_t thread = 0; thread < cuda::tile_threads; ++thread)
      cuda::stage_rows<Elements>(thread, run, first, count, lines.head_dim, memory->tile);
    for (std::uint32_t w = 0; w < cuda::tile_warps; ++w) {
      cuda::tile_columns<Elements, Channels, Sums, host_warp> own(warp, scale * cuda::log2_e, lines.head_dim);
      for (std::uint32_t line = w * cuda::warp_lines; line < lines.line_count;
           line += cuda::tile_warps * cuda::warp_lines)
        own.add(lines, line, log_sums, heads, memory->tile, count);
      own.store(memory->columns[w]);
    }
    for (std::uint32_t row = 0; row < count; ++row)
      cuda::put_column<Sums>(*memory, row, replaces, out + first + row);
  }
}

}  // namespace weft::kernels::reference
