// Keys in a few bits for each channel, from which products with queries are estimated: what is known at hand
// of rows that lie elsewhere.
//
// A channel's distance from the middle of its values, in units of their spread, becomes one of 2^bits equally
// spaced levels; a row's factor makes the product of its levels with the row itself right (as RaBitQ's, arXiv
// 2405.12497): a query that points to the row sees no bias. 1 bit for each channel and 2 bytes a row.
#pragma once

#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::kernels {

class key_sketches {
 public:
  static constexpr std::uint32_t tile_rows = 16;
  static constexpr std::uint32_t most_bits = 4;

  key_sketches() = default;
  // `std::invalid_argument` unless there are channels, and from 1 to `most_bits` bits.
  key_sketches(std::uint32_t channels, std::uint32_t bits);

  // Middle and spread of every channel, from sample rows [row][channel]. Before the first row.
  void fit(std::span<const float> sample);
  // Rows behind those that are there: [row][channel].
  void add(std::span<const float> keys);

  std::uint32_t channels() const { return channels_; }
  std::uint32_t bits() const { return bits_; }
  std::uint32_t rows() const { return static_cast<std::uint32_t>(factors_.size()); }
  // What rows take, and middles and spreads.
  std::size_t size_bytes() const;

  std::span<const float> middles() const { return middles_; }
  std::span<const float> spreads() const { return spreads_; }
  // Of a row: what its levels (odd numbers from 1 - 2^bits to 2^bits - 1) are multiplied with.
  float factor(std::uint32_t row) const;
  std::int32_t level(std::uint32_t row, std::uint32_t channel) const;
  // [four channels][bit, the highest first]: of 16 rows, the first row's lowest, a bit of each channel.
  const std::uint64_t* tile(std::uint32_t index) const { return tiles_.data() + index * tile_words(); }
  std::span<const std::uint16_t> factors() const { return factors_; }  // bf16

 private:
  std::size_t tile_words() const { return (std::size_t{channels_} + 3) / 4 * bits_; }
  void add_tile();
  void add_row(const float* key);

  std::uint32_t channels_ = 0;
  std::uint32_t bits_ = 1;
  std::vector<float> middles_, spreads_;
  std::vector<float> distances_;  // of the row that is being added
  std::vector<std::uint64_t> tiles_;
  std::vector<std::uint16_t> factors_;
};

// Estimated products of queries [line][channel] with all rows: out[line * out_stride + row], with room for
// whole tiles in every line. What multiplies the levels is an integer: of a line's products with the spreads
// the largest becomes 127, and all are rounded.
void sketch_products(const key_sketches& keys, const float* queries, std::uint32_t lines, float* out,
                     std::size_t out_stride);

}  // namespace weft::kernels
