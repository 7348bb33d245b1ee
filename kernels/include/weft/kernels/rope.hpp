// Rotary position embedding, rotate-half convention: elements j and j + head_dim/2 of a head form a pair.
//
// The angle is the f32 product of an f32 frequency and the position, as Hugging Face computes it.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::kernels {

enum class rope_scaling : std::uint8_t { none, llama3, linear };

struct rope_parameters {
  double theta = 10000.0;
  rope_scaling scaling = rope_scaling::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;                  // llama3
  double high_freq_factor = 4.0;                 // llama3
  std::uint32_t original_context_tokens = 8192;  // llama3
};

// head_dim/2 frequencies in radians per position. `head_dim` is even.
std::vector<float> rope_frequencies(const rope_parameters& parameters, std::uint32_t head_dim);

// Cosines and sines for a list of positions: computed once, used for every layer and head.
class rotation_table {
 public:
  rotation_table() = default;

  // Entries for `positions`, or for start .. start + count - 1. Keeps its memory from call to call.
  void assign(std::span<const float> frequencies, std::span<const std::int32_t> positions);
  void assign(std::span<const float> frequencies, std::int32_t start, std::uint32_t count);

  std::uint32_t head_dim() const { return 2 * half_dim_; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(positions_.size()); }
  std::int32_t position(std::uint32_t entry) const { return positions_[entry]; }
  std::span<const std::int32_t> positions() const { return positions_; }
  const float* cosines(std::uint32_t entry) const { return values_ + std::size_t{entry} * 2 * half_dim_; }
  const float* sines(std::uint32_t entry) const { return cosines(entry) + half_dim_; }  // [head_dim/2]

 private:
  void fill(std::span<const float> frequencies);

  workspace memory_;
  const float* values_ = nullptr;  // by entry: cosines, sines
  std::vector<std::int32_t> positions_;
  std::uint32_t half_dim_ = 0;
};

// Rotates x, f32 [rows][heads][head_dim], in place; row r by entry r of the table. Rows are `row_stride`
// floats apart.
void rotate(float* x, std::size_t row_stride, std::uint32_t rows, std::uint32_t heads,
            const rotation_table& table, thread_pool& pool);

}  // namespace weft::kernels
