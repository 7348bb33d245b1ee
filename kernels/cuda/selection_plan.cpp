#include <weft/kernels/cuda/selection_plan.hpp>

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t piece_scores = 4096;

}  // namespace

void selection_plan::assign(std::span<const std::uint32_t> counts) {
  pieces_.clear();
  std::uint64_t total = 0;
  for (std::uint32_t list = 0; list < counts.size(); ++list) {
    total += counts[list];
    for (std::uint32_t first = 0; first < counts[list]; first += std::min(piece_scores, counts[list] - first))
      pieces_.push_back({list, first, std::min(piece_scores, counts[list] - first)});
  }
  if (total > std::numeric_limits<std::uint32_t>::max())
    throw std::invalid_argument("selection_plan: more than 2^32 - 1 scores; select them in parts");
  scores_ = static_cast<std::uint32_t>(total);
}

}  // namespace weft::kernels::cuda
