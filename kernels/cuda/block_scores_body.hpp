// What the threads of a block do for scores of blocks: functions of one thread, between which all threads of
// the block wait for each other. Tests call them for one thread after the other.
#pragma once

#include <weft/kernels/cuda/score_plan.hpp>

#include "cuda/elements.hpp"
#include "cuda/lanes.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

inline constexpr std::uint32_t score_threads = 256;
// Of vectors that are not there.
inline constexpr float least_product = -1e30F;

// The vectors of one piece: whole blocks, as many as are near 512.
WEFT_BOTH_SIDES constexpr std::uint32_t score_piece_vectors(std::uint32_t block_vectors) {
  constexpr std::uint32_t aimed = 512;
  return block_vectors * (aimed / block_vectors > 1 ? aimed / block_vectors : 1);
}

WEFT_BOTH_SIDES inline std::uint32_t pieces_of(std::uint32_t vectors, std::uint32_t block_vectors) {
  const std::uint32_t size = score_piece_vectors(block_vectors);
  return vectors / size + (vectors % size != 0 ? 1 : 0);
}

WEFT_BOTH_SIDES inline std::uint32_t blocks_of(std::uint32_t vectors, std::uint32_t block_vectors) {
  return vectors / block_vectors + (vectors % block_vectors != 0 ? 1 : 0);
}

// One vector's channels in tiles of 64 vectors, `together` of them from one load.
template <class Elements>
struct tiled_channels {
  static constexpr std::uint32_t together = 1;
  WEFT_BOTH_SIDES static void read(const std::byte* tiles, std::uint32_t channels, std::uint32_t vector,
                                   std::uint32_t channel, float (&to)[together]) {
    using storage = typename Elements::storage;
    const std::size_t at = (std::size_t{vector / 64} * channels + channel) * 64 + vector % 64;
    to[0] = Elements::widen(reinterpret_cast<const storage*>(tiles)[at]);
  }
};

template <>
struct tiled_channels<bf16_elements> {
  static constexpr std::uint32_t together = 2;
  WEFT_BOTH_SIDES static void read(const std::byte* tiles, std::uint32_t channels, std::uint32_t vector,
                                   std::uint32_t channel, float (&to)[together]) {
    const std::size_t pairs = (std::size_t{channels} + 1) / 2;
    const std::size_t at = (std::size_t{vector / 64} * pairs + channel / 2) * 64 + vector % 64;
    const std::uint32_t both = reinterpret_cast<const std::uint32_t*>(tiles)[at];
    to[0] = bits_as<float>(both << 16);
    to[1] = bits_as<float>(both & 0xFFFF0000U);
  }
};

// Queries of lines_together lines, [channel][line], with zeros where there is no line or channel.
WEFT_BOTH_SIDES inline std::uint32_t staged_floats(std::uint32_t channels) {
  return (channels + 1) / 2 * 2 * lines_together;
}

WEFT_BOTH_SIDES inline void stage_queries(std::uint32_t thread, std::uint32_t threads, const float* queries,
                                          std::uint32_t lines, std::uint32_t channels,
                                          std::uint32_t first_line, float* staged) {
  for (std::uint32_t i = thread; i < staged_floats(channels); i += threads) {
    const std::uint32_t channel = i / lines_together;
    const std::uint32_t line = first_line + i % lines_together;
    const bool present = channel < channels && line < lines;
    staged[i] = present ? queries[std::size_t{line} * channels + channel] : 0.0F;
  }
}

// One vector with the staged lines.
template <class Channels>
WEFT_BOTH_SIDES void multiply_vector(const std::byte* tiles, std::uint32_t channels, std::uint32_t vector,
                                     const float* staged, float (&products)[lines_together]) {
  for (std::uint32_t line = 0; line < lines_together; ++line)
    products[line] = 0.0F;
  for (std::uint32_t channel = 0; channel < channels; channel += Channels::together) {
    float key[Channels::together];
    Channels::read(tiles, channels, vector, channel, key);
    for (std::uint32_t i = 0; i < Channels::together; ++i)
      for (std::uint32_t line = 0; line < lines_together; ++line)
        products[line] += key[i] * staged[(channel + i) * lines_together + line];
  }
}

// The corner on the query's side gives the larger product. `channels`: of the queries.
template <class Channels>
WEFT_BOTH_SIDES void bound_box(const std::byte* tiles, std::uint32_t channels, std::uint32_t box,
                               const float* staged, float (&bounds)[lines_together]) {
  for (std::uint32_t line = 0; line < lines_together; ++line)
    bounds[line] = 0.0F;
  for (std::uint32_t channel = 0; channel < channels; ++channel) {
    float low[Channels::together];
    float high[Channels::together];
    Channels::read(tiles, 2 * channels, box, channel, low);
    Channels::read(tiles, 2 * channels, box, channels + channel, high);
    const float lower = low[channel % Channels::together];
    const float upper = high[(channels + channel) % Channels::together];
    for (std::uint32_t line = 0; line < lines_together; ++line) {
      const float q = staged[channel * lines_together + line];
      bounds[line] += q * (q > 0 ? upper : lower);
    }
  }
}

// The same for any element type.
template <class Vectors>
WEFT_BOTH_SIDES void multiply_stored(const Vectors& from, std::uint32_t vector, const float* staged,
                                     float (&products)[lines_together]) {
  if (from.type == dtype::bf16)
    multiply_vector<tiled_channels<bf16_elements>>(from.tiles, from.channels, vector, staged, products);
  else if (from.type == dtype::f16)
    multiply_vector<tiled_channels<f16_elements>>(from.tiles, from.channels, vector, staged, products);
  else
    multiply_vector<tiled_channels<f32_elements>>(from.tiles, from.channels, vector, staged, products);
}

template <class Vectors>
WEFT_BOTH_SIDES void bound_stored(const Vectors& from, std::uint32_t box, const float* staged,
                                  float (&bounds)[lines_together]) {
  if (from.type == dtype::bf16)
    bound_box<tiled_channels<bf16_elements>>(from.tiles, from.channels / 2, box, staged, bounds);
  else if (from.type == dtype::f16)
    bound_box<tiled_channels<f16_elements>>(from.tiles, from.channels / 2, box, staged, bounds);
  else
    bound_box<tiled_channels<f32_elements>>(from.tiles, from.channels / 2, box, staged, bounds);
}

// One vector of vector_products (or of box_bounds): out[line][vector] of the staged lines.
template <bool Boxes, class Item>
WEFT_BOTH_SIDES void score_vector(const Item& item, std::uint32_t vector, std::uint32_t first_line,
                                  const float* staged) {
  float products[lines_together];
  if constexpr (Boxes)
    bound_stored(item.vectors, vector, staged, products);
  else
    multiply_stored(item.vectors, vector, staged, products);
  for (std::uint32_t i = 0; i < lines_together; ++i)
    if (first_line + i < item.lines)
      item.out[std::size_t{first_line + i} * item.vectors.vectors + vector] = products[i];
}

// What the threads of a block share while they sum a piece.
struct piece_memory {
  static constexpr std::uint32_t parts = score_threads / lines_together;  // threads to find a line's maximum

  float* staged = nullptr;    // see stage_queries
  float* maxima = nullptr;    // [line][part]
  float* products = nullptr;  // [line][vector of the piece]

  WEFT_BOTH_SIDES static std::size_t floats(std::uint32_t channels, std::uint32_t vectors) {
    return staged_floats(channels) + lines_together * (parts + std::size_t{vectors});
  }
  WEFT_BOTH_SIDES piece_memory(float* memory, std::uint32_t channels)
      : staged(memory),
        maxima(memory + staged_floats(channels)),
        products(maxima + std::size_t{lines_together} * parts) {}
};

// One piece of an item: `score_threads` threads call stage(), multiply(), find_maxima() and sum() one after
// the other, and wait for each other in between.
template <class Item>
class piece_sums {
 public:
  WEFT_BOTH_SIDES piece_sums(const Item& item, const score_task& task, float* memory)
      : item_(item), task_(task), memory_(memory, item.keys.channels) {
    const std::uint32_t size = score_piece_vectors(item.block_vectors);
    first_ = task.piece * size;
    const std::uint32_t left = item.keys.vectors - first_;
    vectors_ = left < size ? left : size;
  }

  WEFT_BOTH_SIDES void stage(std::uint32_t thread) const {
    stage_queries(thread, score_threads, item_.queries, item_.lines, item_.keys.channels, task_.first_line,
                  memory_.staged);
  }
  WEFT_BOTH_SIDES void multiply(std::uint32_t thread) const {
    for (std::uint32_t i = thread; i < vectors_; i += score_threads) {
      float products[lines_together];
      multiply_stored(item_.keys, first_ + i, memory_.staged, products);
      for (std::uint32_t line = 0; line < lines_together; ++line)
        memory_.products[std::size_t{line} * vectors_ + i] = products[line];
    }
  }
  WEFT_BOTH_SIDES void find_maxima(std::uint32_t thread) const {
    const float* const products = memory_.products + std::size_t{thread / parts} * vectors_;
    float maximum = least_product;
    for (std::uint32_t i = thread % parts; i < vectors_; i += parts)
      maximum = products[i] > maximum ? products[i] : maximum;
    memory_.maxima[thread] = maximum;
  }
  // `maxima`: of the item, [line][piece].
  WEFT_BOTH_SIDES void sum(std::uint32_t thread, float* maxima) const {
    const std::uint32_t line = thread / parts;
    if (task_.first_line + line >= item_.lines) return;
    float maximum = least_product;
    for (std::uint32_t i = 0; i < parts; ++i)
      maximum = memory_.maxima[line * parts + i] > maximum ? memory_.maxima[line * parts + i] : maximum;
    const std::uint32_t all_blocks = blocks_of(item_.keys.vectors, item_.block_vectors);
    const std::uint32_t pieces = pieces_of(item_.keys.vectors, item_.block_vectors);
    const std::size_t row = task_.first_line + line;
    const float* const products = memory_.products + std::size_t{line} * vectors_;
    float* const sums = item_.sums + row * all_blocks + first_ / item_.block_vectors;
    for (std::uint32_t block = thread % parts; block * item_.block_vectors < vectors_; block += parts) {
      const std::uint32_t begin = block * item_.block_vectors;
      const std::uint32_t end =
          vectors_ - begin < item_.block_vectors ? vectors_ : begin + item_.block_vectors;
      float sum = 0.0F;
      for (std::uint32_t i = begin; i < end; ++i)
        sum += power_of_two(products[i] - maximum);
      sums[block] = sum;
    }
    if (thread % parts == 0) maxima[row * pieces + task_.piece] = maximum;
  }

 private:
  static constexpr std::uint32_t parts = piece_memory::parts;

  const Item& item_;
  const score_task& task_;
  piece_memory memory_;
  std::uint32_t first_ = 0;
  std::uint32_t vectors_ = 0;
};

// Brings the sums of one line's pieces to their common maximum: `score_threads` threads call find_maximum(),
// scale() and total(), and wait for each other in between. `memory`: score_threads floats, and as many.
template <class Item>
class joined_line {
 public:
  // `maxima`: of the item, [line][piece].
  WEFT_BOTH_SIDES joined_line(const Item& item, std::uint32_t line, const float* maxima, float* memory)
      : item_(item),
        line_(line),
        pieces_(pieces_of(item.keys.vectors, item.block_vectors)),
        maxima_(maxima + std::size_t{line} * pieces_),
        memory_(memory) {}

  WEFT_BOTH_SIDES void find_maximum(std::uint32_t thread) const {
    float maximum = least_product;
    for (std::uint32_t i = thread; i < pieces_; i += score_threads)
      maximum = maxima_[i] > maximum ? maxima_[i] : maximum;
    memory_[thread] = maximum;
  }
  WEFT_BOTH_SIDES void scale(std::uint32_t thread) const {
    const float maximum = common_maximum();
    const std::uint32_t blocks = blocks_of(item_.keys.vectors, item_.block_vectors);
    const std::uint32_t piece_blocks = score_piece_vectors(item_.block_vectors) / item_.block_vectors;
    float* const sums = item_.sums + std::size_t{line_} * blocks;
    float own = 0.0F;
    for (std::uint32_t block = thread; block < blocks; block += score_threads) {
      sums[block] *= power_of_two(maxima_[block / piece_blocks] - maximum);
      own += sums[block];
    }
    memory_[score_threads + thread] = own;
  }
  WEFT_BOTH_SIDES void total(std::uint32_t thread) const {
    if (thread != 0) return;
    float sum = 0.0F;
    for (std::uint32_t i = 0; i < score_threads; ++i)
      sum += memory_[score_threads + i];
    item_.totals[line_] = {common_maximum(), sum};
  }

 private:
  WEFT_BOTH_SIDES float common_maximum() const {
    float maximum = least_product;
    for (std::uint32_t i = 0; i < score_threads; ++i)
      maximum = memory_[i] > maximum ? memory_[i] : maximum;
    return maximum;
  }

  const Item& item_;
  std::uint32_t line_;
  std::uint32_t pieces_;
  const float* maxima_;
  float* memory_;
};

}  // namespace weft::kernels::cuda
