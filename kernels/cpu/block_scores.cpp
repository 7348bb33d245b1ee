#include <weft/kernels/block_scores.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/products.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/block_scores.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"
#include "cpu/score_piece.hpp"
#include "cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

constexpr std::size_t score_width = score_tiles::tile_vectors;
constexpr std::size_t group = tile_vectors;  // vectors of rows at once, which register tiles are made of
constexpr std::size_t most_lines = 6;

// How tiles' channels are multiplied with lines of queries, a group of `together` channels at a time; for
// `group` vectors of rows. Two channels of bf16 from one load.
struct bf16_pairs {
  static constexpr std::size_t together = 2;
  using keys = u32_vector;
  static HWY_INLINE keys load(const std::byte* tile, std::size_t channel, std::size_t part) {
    return hn::LoadU(u32_tag(),
                     reinterpret_cast<const std::uint32_t*>(tile) + channel / 2 * score_width + part);
  }
  static HWY_INLINE f32_vector even(keys both) { return hn::BitCast(f32_tag(), hn::ShiftLeft<16>(both)); }
  static HWY_INLINE f32_vector odd(keys both) {
    return hn::BitCast(f32_tag(), hn::And(both, hn::Set(u32_tag(), 0xFFFF0000U)));
  }
  template <std::size_t lines>
  static HWY_INLINE void add(const keys* both, const float* q, std::size_t q_stride,
                             f32_vector (*acc)[group]) {
    f32_vector wide[group];
    for (std::size_t t = 0; t < group; ++t)
      wide[t] = even(both[t]);
    for (std::size_t line = 0; line < lines; ++line) {
      const f32_vector query = hn::Set(f32_tag(), q[line * q_stride]);
      for (std::size_t t = 0; t < group; ++t)
        acc[line][t] = hn::MulAdd(wide[t], query, acc[line][t]);
    }
    for (std::size_t t = 0; t < group; ++t)
      wide[t] = odd(both[t]);
    for (std::size_t line = 0; line < lines; ++line) {
      const f32_vector query = hn::Set(f32_tag(), q[line * q_stride + 1]);
      for (std::size_t t = 0; t < group; ++t)
        acc[line][t] = hn::MulAdd(wide[t], query, acc[line][t]);
    }
  }
  static HWY_INLINE f32_vector channel_of(const std::byte* tile, std::size_t channel, std::size_t part) {
    const keys both = load(tile, channel, part);
    return channel % 2 == 0 ? even(both) : odd(both);
  }
};

#if WEFT_KERNELS_NATIVE_BF16
// Queries in bf16, a pair of channels in the place of the first one.
struct native_bf16_pairs : bf16_pairs {
  template <std::size_t lines>
  static HWY_INLINE void add(const keys* both, const float* q, std::size_t q_stride,
                             f32_vector (*acc)[group]) {
    const auto* const pairs = reinterpret_cast<const std::uint32_t*>(q);
    for (std::size_t line = 0; line < lines; ++line) {
      const u32_vector query = hn::Set(u32_tag(), pairs[line * q_stride]);
      for (std::size_t t = 0; t < group; ++t)
        acc[line][t] = dot_bf16_pairs(acc[line][t], query, both[t]);
    }
  }
};

void round_pairs(float* q, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 2) {
    const std::uint32_t pair = bf16_from_f32(q[i]) | std::uint32_t{bf16_from_f32(q[i + 1])} << 16U;
    std::memcpy(q + i, &pair, sizeof(pair));
  }
}
#endif

template <class Elements>
struct single_channels {
  static constexpr std::size_t together = 1;
  using keys = f32_vector;
  static HWY_INLINE keys load(const std::byte* tile, std::size_t channel, std::size_t part) {
    return Elements::load(reinterpret_cast<const typename Elements::storage*>(tile) + channel * score_width +
                          part);
  }
  static HWY_INLINE f32_vector channel_of(const std::byte* tile, std::size_t channel, std::size_t part) {
    return load(tile, channel, part);
  }
  template <std::size_t lines>
  static HWY_INLINE void add(const keys* all, const float* q, std::size_t q_stride,
                             f32_vector (*acc)[group]) {
    for (std::size_t line = 0; line < lines; ++line) {
      const f32_vector query = hn::Set(f32_tag(), q[line * q_stride]);
      for (std::size_t t = 0; t < group; ++t)
        acc[line][t] = hn::MulAdd(all[t], query, acc[line][t]);
    }
  }
};

// Asks memory for what is needed next, to the second level of caches: the first one has too few misses under
// way.
HWY_INLINE void ask_for(const std::byte* from, const std::byte* to) {
  constexpr int second_level = 2;
  for (; from < to; from += cache_line_bytes)
    __builtin_prefetch(from, 0, second_level);
}

// Products of some lines with one tile: out[line * out_stride + vector], and the largest of each line and
// lane. Asks for as much as half a tile from `next`, if that is any.
template <class Channels, std::size_t lines>
HWY_INLINE void tile_products(const std::byte* tile, std::size_t channels, const float* q, float* out,
                              std::size_t out_stride, f32_vector (&largest)[lines], const std::byte* next) {
  constexpr std::size_t asked_bytes = asked_bytes_per_channel * Channels::together;
  const f32_tag tag;
  for (std::size_t part = 0; part < score_width; part += group_columns) {
    f32_vector acc[lines][group];
    for (std::size_t line = 0; line < lines; ++line)
      for (std::size_t v = 0; v < group; ++v)
        acc[line][v] = hn::Zero(tag);
    for (std::size_t channel = 0; channel < channels; channel += Channels::together) {
      if (next != nullptr) {
        ask_for(next, next + asked_bytes);
        next += asked_bytes;
      }
      typename Channels::keys keys[group];
      for (std::size_t v = 0; v < group; ++v)
        keys[v] = Channels::load(tile, channel, part + v * kernels::HWY_NAMESPACE::lanes);
      Channels::template add<lines>(keys, q + channel, channels, acc);
    }
    next = nullptr;
    for (std::size_t line = 0; line < lines; ++line)
      for (std::size_t v = 0; v < group; ++v) {
        hn::StoreU(acc[line][v], tag, out + line * out_stride + part + v * kernels::HWY_NAMESPACE::lanes);
        largest[line] = hn::Max(largest[line], acc[line][v]);
      }
  }
}

template <class Channels>
void products_of_lines(const std::byte* tiles, std::size_t tile_bytes, std::size_t count,
                       std::size_t channels, const float* q, std::size_t lines, float* out,
                       std::size_t out_stride, float* maxima, const std::byte* next) {
  std::size_t line = 0;
  const auto pass = [&]<std::size_t wide>() HWY_ATTR {
    for (; line + wide <= lines; line += wide) {
      f32_vector largest[wide];
      std::ranges::fill(largest, hn::Set(f32_tag(), least_product));
      for (std::size_t i = 0; i < count; ++i) {
        const bool asks = line == 0 && next != nullptr;
        tile_products<Channels, wide>(tiles + i * tile_bytes, channels, q + line * channels,
                                      out + line * out_stride + i * score_width, out_stride, largest,
                                      asks ? next + i * channels * asked_bytes_per_channel : nullptr);
      }
      for (std::size_t i = 0; maxima != nullptr && i < wide; ++i)
        maxima[line + i] = hn::GetLane(hn::MaxOfLanes(f32_tag(), largest[i]));
    }
  };
  pass.template operator()<most_lines>();
  pass.template operator()<4>();
  pass.template operator()<2>();
  pass.template operator()<1>();
}

// Queries become what `tiles_products` multiplies with.
void prepare_queries([[maybe_unused]] dtype operands, [[maybe_unused]] float* q,
                     [[maybe_unused]] std::size_t count) {
#if WEFT_KERNELS_NATIVE_BF16
  if (operands == dtype::bf16) round_pairs(q, count);
#endif
}

// `q`: prepared for the same operands, [line][channel], padded to whole pairs. `maxima`, [line], and `next`
// may be null.
void tiles_products(dtype type, [[maybe_unused]] dtype operands, const std::byte* tiles,
                    std::size_t tile_bytes, std::size_t count, std::size_t channels, const float* q,
                    std::size_t lines, float* out, std::size_t out_stride, float* maxima,
                    const std::byte* next) {
  switch (type) {
    case dtype::f32:
      return products_of_lines<single_channels<f32_elements>>(tiles, tile_bytes, count, channels, q, lines,
                                                              out, out_stride, maxima, next);
    case dtype::f16:
      return products_of_lines<single_channels<f16_elements>>(tiles, tile_bytes, count, channels, q, lines,
                                                              out, out_stride, maxima, next);
    case dtype::bf16:
      break;
  }
#if WEFT_KERNELS_NATIVE_BF16
  if (operands == dtype::bf16)
    return products_of_lines<native_bf16_pairs>(tiles, tile_bytes, count, channels, q, lines, out, out_stride,
                                                maxima, next);
#endif
  products_of_lines<bf16_pairs>(tiles, tile_bytes, count, channels, q, lines, out, out_stride, maxima, next);
}

float largest(const float* values, std::size_t count) {
  const f32_tag tag;
  f32_vector found[4];  // a maximum waits for the one before it
  std::ranges::fill(found, hn::Set(tag, least_product));
  std::size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes)
    for (std::size_t v = 0; v < 4; ++v)
      found[v] = hn::Max(found[v], hn::LoadU(tag, values + i + v * lanes));
  for (; i + lanes <= count; i += lanes)
    found[0] = hn::Max(found[0], hn::LoadU(tag, values + i));
  found[0] = hn::Max(hn::Max(found[0], found[1]), hn::Max(found[2], found[3]));
  float maximum = hn::GetLane(hn::MaxOfLanes(tag, found[0]));
  for (; i < count; ++i)
    maximum = std::max(maximum, values[i]);
  return maximum;
}

// Sum of 2^(value - maximum). May read, not use, up to a vector beyond `count`.
HWY_INLINE float exponentials(const float* values, std::size_t count, f32_vector maximum) {
  const f32_tag tag;
  f32_vector sum = hn::Zero(tag);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    sum = hn::Add(sum, exp2_of<true>(hn::Sub(hn::LoadU(tag, values + i), maximum)));
  if (i < count) {
    const auto rest = hn::FirstN(tag, count - i);
    const f32_vector last = hn::IfThenElse(rest, hn::LoadU(tag, values + i), maximum);
    sum = hn::Add(sum, hn::IfThenElseZero(rest, exp2_of<true>(hn::Sub(last, maximum))));
  }
  return hn::GetLane(hn::SumOfLanes(tag, sum));
}

// One line's products of whole blocks: what each block sums to, over 2^maximum. Asks for memory from `next`
// to `end`, so many bytes beside each block.
void block_sums(const float* products, std::size_t vectors, std::size_t block_vectors, float maximum,
                float* sums, const std::byte* next, const std::byte* end, std::size_t asked_bytes) {
  const f32_vector base = hn::Set(f32_tag(), maximum);
  for (std::size_t first = 0; first < vectors; first += block_vectors) {
    const std::byte* const until = std::min(end, next + asked_bytes);
    ask_for(next, until);
    next = until;
    *sums++ = exponentials(products + first, std::min(block_vectors, vectors - first), base);
  }
}

// Brings the sums of a line's pieces to their common maximum, and returns that with the sum of all. `maxima`
// become the factors.
softmax_total join_line(float* sums, std::size_t blocks, std::size_t piece_blocks, float* maxima,
                        std::size_t pieces) {
  const f32_tag tag;
  softmax_total total;
  total.maximum = std::max(total.maximum, largest(maxima, pieces));
  for (std::size_t i = 0; i < pieces; ++i)
    maxima[i] = hn::GetLane(exp2_of<false>(hn::Set(tag, maxima[i] - total.maximum)));
  f32_vector all = hn::Zero(tag);
  for (std::size_t piece = 0; piece < pieces; ++piece) {
    const f32_vector factor = hn::Set(tag, maxima[piece]);
    const std::size_t end = std::min(blocks, (piece + 1) * piece_blocks);
    std::size_t block = piece * piece_blocks;
    for (; block + lanes <= end; block += lanes) {
      const f32_vector scaled = hn::Mul(hn::LoadU(tag, sums + block), factor);
      hn::StoreU(scaled, tag, sums + block);
      all = hn::Add(all, scaled);
    }
    for (; block < end; ++block)
      total.sum += sums[block] *= maxima[piece];
  }
  total.sum += hn::GetLane(hn::SumOfLanes(tag, all));
  return total;
}

template <class Channels>
HWY_INLINE void bounds_of(const std::byte* tile, std::size_t channels, const float* q, float* out) {
  const f32_tag tag;
  for (std::size_t part = 0; part < score_width; part += kernels::HWY_NAMESPACE::lanes) {
    f32_vector acc = hn::Zero(tag);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      // The corner on the query's side gives the larger product.
      const std::size_t corner = q[channel] > 0 ? channels + channel : channel;
      acc = hn::MulAdd(Channels::channel_of(tile, corner, part), hn::Set(tag, q[channel]), acc);
    }
    hn::StoreU(acc, tag, out + part);
  }
}

void tile_bounds(dtype type, const std::byte* tile, std::size_t channels, const float* q, float* out) {
  switch (type) {
    case dtype::f32:
      return bounds_of<single_channels<f32_elements>>(tile, channels, q, out);
    case dtype::bf16:
      return bounds_of<bf16_pairs>(tile, channels, q, out);
    case dtype::f16:
      return bounds_of<single_channels<f16_elements>>(tile, channels, q, out);
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(prepare_queries);
HWY_EXPORT(tiles_products);
HWY_EXPORT(block_sums);
HWY_EXPORT(largest);
HWY_EXPORT(join_line);
HWY_EXPORT(tile_bounds);

namespace {

constexpr std::uint32_t tile_width = score_tiles::tile_vectors;
constexpr std::uint32_t product_tiles = 64;         // of a task of plain products
constexpr std::uint32_t task_pieces = 8;            // of sums
constexpr std::uint32_t aimed_piece_vectors = 512;  // their products stay in the first-level cache

std::uint32_t tiles_of(std::uint32_t vectors) {
  return (vectors + tile_width - 1) / tile_width;
}

std::uint32_t padded(dtype type, std::uint32_t channels) {
  return type == dtype::bf16 ? (channels + 1) / 2 * 2 : channels;
}

std::size_t prepared_floats(const score_tiles& keys, std::uint32_t lines) {
  return std::size_t{lines} * padded(keys.type(), keys.channels());
}

void prepare(const score_tiles& keys, products allowed, const float* queries, std::uint32_t lines,
             float* out) {
  const std::uint32_t width = padded(keys.type(), keys.channels());
  for (std::size_t line = 0; line < lines; ++line) {
    std::copy_n(queries + line * keys.channels(), keys.channels(), out + line * width);
    std::fill(out + line * width + keys.channels(), out + (line + 1) * width, 0.0F);
  }
  HWY_DYNAMIC_DISPATCH(prepare_queries)(operand_dtype(allowed, keys.type()), out, std::size_t{lines} * width);
}

void multiply_tiles(const score_tiles& keys, products allowed, std::uint32_t first_tile, std::uint32_t count,
                    const float* prepared, std::uint32_t lines, float* products, std::size_t stride,
                    float* maxima = nullptr, const std::byte* next = nullptr) {
  HWY_DYNAMIC_DISPATCH(tiles_products)
  (keys.type(), operand_dtype(allowed, keys.type()), keys.tile(first_tile), keys.tile_bytes(), count,
   padded(keys.type(), keys.channels()), prepared, lines, products, stride, maxima, next);
}

// Vectors are summed piece by piece, of whole blocks and whole tiles; a task takes several.
struct piece_plan {
  explicit piece_plan(const softmax_blocks& item) {
    const std::uint32_t common = std::lcm(tile_width, item.block_vectors);
    vectors = common * std::max(1U, aimed_piece_vectors / common);
    pieces = (item.keys->vectors() + vectors - 1) / vectors;
    piece_blocks = vectors / item.block_vectors;
    blocks = (item.keys->vectors() + item.block_vectors - 1) / item.block_vectors;
    tasks = (pieces + task_pieces - 1) / task_pieces;
    width = padded(item.keys->type(), item.keys->channels());
  }

  std::uint32_t vectors;       // of a piece
  std::uint32_t piece_blocks;  // likewise
  std::uint32_t pieces;
  std::uint32_t blocks;
  std::uint32_t tasks;
  std::uint32_t width;  // of a prepared query
};

// Every piece has a maximum of its own, so that pieces depend on nothing. `next`: where this thread likely
// goes on, with a whole piece, or null. `products` has room for `lines_at_once` lines of a piece and a tile
// each.
void sum_piece(const softmax_blocks& item, const piece_plan& plan, const float* prepared, std::uint32_t piece,
               const std::byte* next, float* maxima, float* products) {
  const score_tiles& keys = *item.keys;
  const std::uint32_t first = piece * plan.vectors;
  const std::uint32_t vectors = std::min(plan.vectors, keys.vectors() - first);
  const std::uint32_t tiles = tiles_of(plan.vectors);
  const std::size_t stride = std::size_t{plan.vectors} + tile_width;
  const std::size_t asked_before = std::size_t{tiles} * plan.width * asked_bytes_per_channel;
  const std::size_t share_bytes =
      next == nullptr ? 0 : (tiles * keys.tile_bytes() - asked_before) / item.lines;
  const std::size_t step_bytes =
      (share_bytes / plan.piece_blocks + cache_line_bytes) & ~(cache_line_bytes - 1);
  const std::byte* asked = next == nullptr ? keys.tile(0) : next + asked_before;
  auto* const sum = &HWY_DYNAMIC_DISPATCH(block_sums);
  float found[lines_at_once];
  for (std::uint32_t line = 0; line < item.lines; ++line) {
    const std::uint32_t in_group = line % lines_at_once;
    const float* const own = products + in_group * stride;
    if (in_group == 0)
      multiply_tiles(keys, item.allowed, first / tile_width, tiles_of(vectors),
                     prepared + std::size_t{line} * plan.width, std::min(lines_at_once, item.lines - line),
                     products, stride, found, line == 0 ? next : nullptr);
    // What fills the last tile is no product.
    float& maximum = maxima[std::size_t{line} * plan.pieces + piece];
    maximum = vectors % tile_width == 0 ? found[in_group] : HWY_DYNAMIC_DISPATCH(largest)(own, vectors);
    sum(own, vectors, item.block_vectors, maximum,
        item.sums + std::size_t{line} * plan.blocks + std::size_t{piece} * plan.piece_blocks, asked,
        asked + share_bytes, step_bytes);
    asked += share_bytes;
  }
}

// The next task of this thread is likely so many tasks further on as there are threads.
void sum_pieces(const softmax_blocks& item, const piece_plan& plan, const float* prepared, std::uint32_t task,
                unsigned threads, float* maxima, workspace& memory) {
  const std::size_t floats = lines_at_once * (std::size_t{plan.vectors} + tile_width);
  auto* const products = reinterpret_cast<float*>(memory.reserve(floats * sizeof(float)).data());
  const std::uint32_t first = task * task_pieces;
  const std::uint32_t end = std::min(plan.pieces, first + task_pieces);
  for (std::uint32_t piece = first; piece < end; ++piece) {
    const std::uint32_t next = piece + 1 < end ? piece + 1 : first + threads * task_pieces;
    const bool whole = next + 1 < plan.pieces;
    sum_piece(item, plan, prepared, piece, whole ? item.keys->tile(next * tiles_of(plan.vectors)) : nullptr,
              maxima, products);
  }
}

void join_pieces(const softmax_blocks& item, const piece_plan& plan, float* maxima, thread_pool& pool) {
  auto* const join = &HWY_DYNAMIC_DISPATCH(join_line);
  pool.parallel_for(item.lines, [&](std::size_t line, unsigned) {
    item.totals[line] = join(item.sums + line * plan.blocks, plan.blocks, plan.piece_blocks,
                             maxima + line * plan.pieces, plan.pieces);
  });
}

void check(const softmax_blocks& item) {
  if (item.keys == nullptr || item.block_vectors == 0)
    throw std::invalid_argument("softmax_block_sums: blocks need keys and at least one vector each");
}

}  // namespace

score_tiles::score_tiles(dtype type, std::uint32_t vectors, std::uint32_t channels)
    : type_(type), vectors_(vectors), channels_(channels) {
  memory_ = aligned_buffer(tiles_of(vectors) * tile_bytes());
  if (memory_.size_bytes() > 0) std::memset(memory_.data(), 0, memory_.size_bytes());
}

std::size_t score_tiles::tile_bytes() const {
  return std::size_t{tile_width} * padded(type_, channels_) * kernels::size_bytes(type_);
}

void score_tiles::set(std::uint32_t vector, std::span<const float> values) {
  if (vector >= vectors_ || values.size() != channels_)
    throw std::invalid_argument("score_tiles::set: no such vector, or one of another width");
  const std::size_t together = type_ == dtype::bf16 ? 2 : 1;
  std::byte* const tile_data = memory_.data() + vector / tile_width * tile_bytes();
  for (std::size_t channel = 0; channel < values.size(); ++channel) {
    const std::size_t group = channel / together * tile_width + vector % tile_width;
    const std::size_t element = group * together + channel % together;
    from_f32(type_, &values[channel], tile_data + element * kernels::size_bytes(type_), 1);
  }
}

// Scratch memory: for each item the pieces' maxima, [line][piece], and its prepared queries.
void softmax_block_sums(std::span<const softmax_blocks> items, workspace& scratch, thread_pool& pool) {
  const auto maxima_of = [](const softmax_blocks& item) {
    return std::size_t{item.lines} * piece_plan(item).pieces;
  };
  std::size_t floats = 0;
  std::size_t tasks = 0;
  for (const softmax_blocks& item : items) {
    check(item);
    floats += maxima_of(item) + prepared_floats(*item.keys, item.lines);
    tasks += piece_plan(item).tasks;
  }
  auto* const memory = reinterpret_cast<float*>(scratch.reserve(floats * sizeof(float)).data());
  float* own = memory;
  for (const softmax_blocks& item : items) {
    own += maxima_of(item);
    prepare(*item.keys, item.allowed, item.queries, item.lines, own);
    own += prepared_floats(*item.keys, item.lines);
  }
  pool.parallel_for(tasks, [&](std::size_t task, unsigned worker) {
    float* maxima = memory;
    for (const softmax_blocks& item : items) {
      const piece_plan plan(item);
      const float* const prepared = maxima + std::size_t{item.lines} * plan.pieces;
      if (task < plan.tasks)
        return sum_pieces(item, plan, prepared, static_cast<std::uint32_t>(task), pool.threads(), maxima,
                          pool.scratch(worker));
      task -= plan.tasks;
      maxima += maxima_of(item) + prepared_floats(*item.keys, item.lines);
    }
  });
  own = memory;
  for (const softmax_blocks& item : items) {
    join_pieces(item, piece_plan(item), own, pool);
    own += maxima_of(item) + prepared_floats(*item.keys, item.lines);
  }
}

void vector_products(const score_tiles& keys, const float* queries, std::uint32_t lines, float* out,
                     thread_pool& pool) {
  const std::uint32_t tiles = tiles_of(keys.vectors());
  pool.parallel_for((tiles + product_tiles - 1) / product_tiles, [&](std::size_t index, unsigned worker) {
    const std::uint32_t first = static_cast<std::uint32_t>(index) * product_tiles;
    const std::uint32_t count = std::min(product_tiles, tiles - first);
    const std::size_t stride = std::size_t{product_tiles} * tile_width;
    const std::size_t floats = lines * stride + prepared_floats(keys, lines);
    auto* products = reinterpret_cast<float*>(pool.scratch(worker).reserve(floats * sizeof(float)).data());
    float* const prepared = products + lines * stride;
    prepare(keys, products::f32, queries, lines, prepared);
    multiply_tiles(keys, products::f32, first, count, prepared, lines, products, stride);
    const std::size_t present = std::min(count * tile_width, keys.vectors() - first * tile_width);
    for (std::size_t line = 0; line < lines; ++line)
      std::copy_n(products + line * stride, present,
                  out + line * keys.vectors() + std::size_t{first} * tile_width);
  });
}

void box_bounds(const score_tiles& boxes, const float* queries, std::uint32_t lines, float* out,
                thread_pool& pool) {
  auto* const bound = &HWY_DYNAMIC_DISPATCH(tile_bounds);
  const std::size_t channels = boxes.channels() / 2;
  pool.parallel_for(tiles_of(boxes.vectors()), [&](std::size_t index, unsigned) {
    const auto at = static_cast<std::uint32_t>(index);
    const std::uint32_t present = std::min(tile_width, boxes.vectors() - at * tile_width);
    float bounds[tile_width];
    for (std::size_t line = 0; line < lines; ++line) {
      bound(boxes.type(), boxes.tile(at), channels, queries + line * channels, bounds);
      std::copy_n(bounds, present, out + line * boxes.vectors() + index * tile_width);
    }
  });
}

}  // namespace weft::kernels
#endif
