#include <weft/kernels/cuda/score_plan.hpp>

#include "cuda/block_scores_body.hpp"

#include <algorithm>
#include <stdexcept>

namespace weft::kernels::cuda {

void score_plan::assign(std::span<const score_shape> items) {
  tasks_.clear();
  lines_.clear();
  first_maximum_.clear();
  scratch_floats_ = 0;
  shared_bytes_ = 0;
  for (std::uint32_t item = 0; item < items.size(); ++item) {
    const score_shape& s = items[item];
    if (s.channels == 0 || s.channels > most_score_channels || s.block_vectors == 0 ||
        s.block_vectors > most_block_vectors)
      throw std::invalid_argument("score_plan: a block has 1 to 1024 vectors of 1 to 256 channels");
    const std::uint32_t size = score_piece_vectors(s.block_vectors);
    const std::uint32_t pieces = pieces_of(s.vectors, s.block_vectors);
    for (std::uint32_t piece = 0; piece < pieces; ++piece)
      for (std::uint32_t line = 0; line < s.lines; line += lines_together)
        tasks_.push_back({item, piece, line});
    for (std::uint32_t line = 0; line < s.lines; ++line)
      lines_.push_back({item, 0, line});
    first_maximum_.push_back(scratch_floats_);
    scratch_floats_ += std::size_t{s.lines} * pieces;
    const std::size_t floats = piece_memory::floats(s.channels, std::min(size, s.vectors));
    shared_bytes_ = std::max(shared_bytes_, static_cast<std::uint32_t>(floats * sizeof(float)));
  }
}

}  // namespace weft::kernels::cuda
