// How scores of blocks are spread over a GPU: vectors in pieces of whole blocks, queries some lines at a
// time. Made on the CPU; needs no CUDA itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::kernels::cuda {

// Lines of queries that one thread block multiplies with its vectors.
inline constexpr std::uint32_t lines_together = 8;
inline constexpr std::uint32_t most_block_vectors = 1024;
inline constexpr std::uint32_t most_score_channels = 256;

struct score_shape {
  std::uint32_t vectors = 0;
  std::uint32_t channels = 0;       // up to most_score_channels
  std::uint32_t block_vectors = 1;  // 1 to most_block_vectors
  std::uint32_t lines = 0;
};

// What one thread block does: lines [first_line, ...) of an item over the vectors of one piece of it.
struct score_task {
  std::uint32_t item = 0;
  std::uint32_t piece = 0;
  std::uint32_t first_line = 0;
};

// Depends on shapes only: one plan serves every layer and step with the same ones.
class score_plan {
 public:
  // `std::invalid_argument` for a shape outside its limits. Allocates only when it grows.
  void assign(std::span<const score_shape> items);

  std::span<const score_task> tasks() const { return tasks_; }
  // Every line of every item; the piece means nothing.
  std::span<const score_task> lines() const { return lines_; }
  // By item: where its maxima begin in the scratch memory, [line][piece].
  std::span<const std::uint64_t> first_maximum() const { return first_maximum_; }
  std::size_t scratch_bytes() const { return scratch_floats_ * sizeof(float); }
  // Of a thread block's own memory.
  std::uint32_t shared_bytes() const { return shared_bytes_; }

 private:
  std::vector<score_task> tasks_;
  std::vector<score_task> lines_;
  std::vector<std::uint64_t> first_maximum_;
  std::size_t scratch_floats_ = 0;
  std::uint32_t shared_bytes_ = 0;
};

}  // namespace weft::kernels::cuda
