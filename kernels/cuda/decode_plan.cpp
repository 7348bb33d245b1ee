#include <weft/kernels/cuda/decode_plan.hpp>

#include <algorithm>
#include <numeric>

namespace weft::kernels::cuda {

namespace {

// Shorter ones are not worth their merge; longer ones leave the last warp alone for too long.
constexpr std::uint64_t least_rows = 64;
constexpr std::uint64_t most_rows = 2048;

std::uint32_t rows_per_piece(std::uint64_t total_rows, std::uint32_t warps) {
  const std::uint64_t share = total_rows / std::max<std::uint32_t>(warps, 1) + 1;
  const std::uint64_t rounded = (share + least_rows - 1) / least_rows * least_rows;
  return static_cast<std::uint32_t>(std::clamp(rounded, least_rows, most_rows));
}

}  // namespace

void decode_plan::assign(std::span<const std::uint32_t> rows, std::uint32_t warps) {
  const auto total = std::accumulate(rows.begin(), rows.end(), std::uint64_t{0});
  const std::uint32_t step = rows_per_piece(total, warps);
  pieces_.clear();
  first_piece_.assign(1, 0);
  for (std::uint32_t head = 0; head < rows.size(); ++head) {
    for (std::uint32_t row = 0; row < rows[head]; row += std::min(step, rows[head] - row))
      pieces_.push_back({head, row, std::min(step, rows[head] - row)});
    first_piece_.push_back(static_cast<std::uint32_t>(pieces_.size()));
  }
}

}  // namespace weft::kernels::cuda
