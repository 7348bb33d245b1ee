#include <weft/kernels/cuda/attention_plan.hpp>

#include <algorithm>
#include <numeric>

namespace weft::kernels::cuda {

namespace {

// Shorter pieces are not worth their merge.
constexpr std::uint64_t least_rows = 256;

std::uint32_t rows_per_task(std::uint64_t rows, std::uint64_t line_groups, std::uint32_t blocks) {
  constexpr std::uint64_t most_rows = 0x80000000U;
  const std::uint64_t share = rows * line_groups / std::max<std::uint32_t>(blocks, 1);
  return static_cast<std::uint32_t>(std::clamp(share / least_rows * least_rows, least_rows, most_rows));
}

}  // namespace

void attention_plan::assign(std::span<const std::vector<std::uint32_t>> runs, std::uint32_t lines,
                            std::uint32_t blocks) {
  std::uint64_t rows = 0;
  for (const auto& head : runs)
    rows = std::accumulate(head.begin(), head.end(), rows);
  const std::uint32_t step = rows_per_task(rows, lines / tile_lines + 1, blocks);
  tasks_.clear();
  merges_.clear();
  for (std::uint32_t head = 0; head < runs.size(); ++head)
    for (std::uint32_t line = 0; line < lines; line += std::min(tile_lines, lines - line)) {
      const auto first_task = static_cast<std::uint32_t>(tasks_.size());
      for (std::uint32_t run = 0; run < runs[head].size(); ++run)
        for (std::uint32_t row = 0; row < runs[head][run]; row += std::min(step, runs[head][run] - row))
          tasks_.push_back({head, run, line, row, std::min(step, runs[head][run] - row)});
      merges_.push_back({head, line, first_task, static_cast<std::uint32_t>(tasks_.size()) - first_task});
    }
}

}  // namespace weft::kernels::cuda
