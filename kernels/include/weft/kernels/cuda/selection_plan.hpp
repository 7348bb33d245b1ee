// How a selection over many lists of scores is spread over a GPU. Made on the CPU; needs no CUDA itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::kernels::cuda {

inline constexpr std::uint32_t selection_bins = 0x10000;
inline constexpr std::uint32_t most_cuts = 16;

// What one warp looks at: scores of one list.
struct score_piece {
  std::uint32_t list = 0;
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

// Depends on the lists' lengths only.
class selection_plan {
 public:
  // `std::invalid_argument` for 2^32 scores or more. Allocates only when it grows.
  void assign(std::span<const std::uint32_t> counts);

  std::span<const score_piece> pieces() const { return pieces_; }
  std::uint32_t scores() const { return scores_; }
  // Of device memory, for that many cuts.
  std::size_t scratch_bytes(std::uint32_t cuts) const {
    return (selection_bins + std::size_t{cuts} * pieces_.size()) * sizeof(std::uint32_t);
  }

 private:
  std::vector<score_piece> pieces_;
  std::uint32_t scores_ = 0;
};

}  // namespace weft::kernels::cuda
