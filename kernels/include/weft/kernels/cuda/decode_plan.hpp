// How decode attention is spread over a GPU: by rows, not by heads, so that a head with a hundred times the
// rows of another takes a hundred times the warps. Made on the CPU; needs no CUDA itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::kernels::cuda {

// What one warp attends to: rows of one head.
struct decode_piece {
  std::uint32_t head = 0;
  std::uint32_t first_row = 0;
  std::uint32_t rows = 0;
};

// Depends on the row counts only: one plan serves every layer whose counts are the same.
class decode_plan {
 public:
  // rows[i]: rows of head i (of one KV head of one session). `warps`: how many the device runs at once, to
  // make at least as many pieces as that where there are rows enough. Allocates only when it grows.
  void assign(std::span<const std::uint32_t> rows, std::uint32_t warps);

  std::uint32_t heads() const { return static_cast<std::uint32_t>(first_piece_.size() - 1); }
  std::span<const decode_piece> pieces() const { return pieces_; }
  // By head, one more at the end: its pieces are [first_piece[i], first_piece[i + 1]).
  std::span<const std::uint32_t> first_piece() const { return first_piece_; }
  // Of device memory for the pieces' results.
  std::size_t scratch_bytes(std::uint32_t group, std::uint32_t head_dim) const {
    return scratch_bytes(pieces_.size(), group, head_dim);
  }
  static std::size_t scratch_bytes(std::size_t pieces, std::uint32_t group, std::uint32_t head_dim) {
    return pieces * group * (std::size_t{head_dim} + 2) * sizeof(float);
  }

 private:
  std::vector<decode_piece> pieces_;
  std::vector<std::uint32_t> first_piece_{0};
};

}  // namespace weft::kernels::cuda
