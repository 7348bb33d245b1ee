// How well queries fit blocks of keys: what sparse decoding ranks blocks by. Vectors are read once, in the
// order in which they lie in memory.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/products.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::kernels {

// Vectors that are multiplied with queries, in tiles of 64: [tile][channel][64], bf16 with its channels in
// pairs: [tile][pair][64][2]. Zeros fill the last tile and the last pair.
class score_tiles {
 public:
  static constexpr std::uint32_t tile_vectors = 64;

  score_tiles() = default;
  score_tiles(dtype type, std::uint32_t vectors, std::uint32_t channels);

  // Rounds `values` to the element type; as many as there are channels.
  void set(std::uint32_t vector, std::span<const float> values);

  dtype type() const { return type_; }
  std::uint32_t vectors() const { return vectors_; }
  std::uint32_t channels() const { return channels_; }
  std::size_t size_bytes() const { return memory_.size_bytes(); }
  std::size_t tile_bytes() const;
  const std::byte* tile(std::uint32_t index) const { return memory_.data() + index * tile_bytes(); }

 private:
  aligned_buffer memory_;
  dtype type_ = dtype::f32;
  std::uint32_t vectors_ = 0;
  std::uint32_t channels_ = 0;
};

// The exponentials of one query over all vectors sum to sum * 2^maximum; of none: sum 0. The maximum is that
// of all products or of some, above which none lies by 64 or more.
struct softmax_total {
  float maximum = -1e30F;
  float sum = 0;

  friend bool operator==(const softmax_total&, const softmax_total&) = default;
};

// Queries against the vectors of consecutive blocks of `block_vectors` vectors each.
struct softmax_blocks {
  const score_tiles* keys = nullptr;
  std::uint32_t block_vectors = 1;
  const float* queries = nullptr;  // [line][channel], times log2(e) and the scale of the scores
  std::uint32_t lines = 0;
  float* sums = nullptr;            // [line][block]: exponentials of the block's vectors, over 2^maximum
  softmax_total* totals = nullptr;  // [line]
  products allowed = products::automatic;
};

// The result does not depend on the number of threads. Every product must be below 1e30.
void softmax_block_sums(std::span<const softmax_blocks> items, workspace& scratch, thread_pool& pool);

// out: [line][vector], plain products of queries [line][channel].
void vector_products(const score_tiles& keys, const float* queries, std::uint32_t lines, float* out,
                     thread_pool& pool);

// Upper bounds of a query's product with anything inside boxes: `boxes` has the lower corner's channels and
// behind them the upper one's; queries have half as many. out: [line][box]. (Quest, arXiv 2406.10774.)
void box_bounds(const score_tiles& boxes, const float* queries, std::uint32_t lines, float* out,
                thread_pool& pool);

}  // namespace weft::kernels
