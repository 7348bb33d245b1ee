#include <weft/kernels/block_scores.hpp>
#include <weft/kernels/convert.hpp>

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

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

constexpr std::size_t tile_vectors = score_tiles::tile_vectors;
constexpr std::size_t most_lines = 8;  // per pass over a tile: what fits into registers

// Products of some lines with one tile: out[line * out_stride + vector].
template <class Elements, std::size_t lines>
HWY_INLINE void tile_products(const typename Elements::storage* tile, std::size_t channels, const float* q,
                              std::size_t q_stride, float* out, std::size_t out_stride) {
  const f32_tag tag;
  for (std::size_t part = 0; part < tile_vectors; part += weft::kernels::HWY_NAMESPACE::lanes) {
    f32_vector acc[lines];
    for (std::size_t line = 0; line < lines; ++line)
      acc[line] = hn::Zero(tag);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      const f32_vector keys = Elements::load(tile + channel * tile_vectors + part);
      for (std::size_t line = 0; line < lines; ++line)
        acc[line] = hn::MulAdd(keys, hn::Set(tag, q[line * q_stride + channel]), acc[line]);
    }
    for (std::size_t line = 0; line < lines; ++line)
      hn::StoreU(acc[line], tag, out + line * out_stride + part);
  }
}

template <class Elements, std::size_t lines>
HWY_INLINE void products_of(const std::byte* tiles, std::size_t count, std::size_t channels, const float* q,
                            float* out, std::size_t out_stride) {
  const auto* tile = reinterpret_cast<const typename Elements::storage*>(tiles);
  for (std::size_t i = 0; i < count; ++i, tile += tile_vectors * channels)
    tile_products<Elements, lines>(tile, channels, q, channels, out + i * tile_vectors, out_stride);
}

template <class Elements>
void products_of_lines(const std::byte* tiles, std::size_t count, std::size_t channels, const float* q,
                       std::size_t lines, float* out, std::size_t out_stride) {
  std::size_t line = 0;
  const auto pass = [&]<std::size_t wide>() HWY_ATTR {
    for (; line + wide <= lines; line += wide)
      products_of<Elements, wide>(tiles, count, channels, q + line * channels, out + line * out_stride,
                                  out_stride);
  };
  pass.template operator()<most_lines>();
  pass.template operator()<4>();
  pass.template operator()<1>();
}

void tiles_products(dtype type, const std::byte* tiles, std::size_t count, std::size_t channels,
                    const float* q, std::size_t lines, float* out, std::size_t out_stride) {
  switch (type) {
    case dtype::f32:
      return products_of_lines<f32_elements>(tiles, count, channels, q, lines, out, out_stride);
    case dtype::bf16:
      return products_of_lines<bf16_elements>(tiles, count, channels, q, lines, out, out_stride);
    case dtype::f16:
      return products_of_lines<f16_elements>(tiles, count, channels, q, lines, out, out_stride);
  }
}

float largest(const float* values, std::size_t count) {
  const f32_tag tag;
  f32_vector found = hn::Set(tag, -1e30F);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    found = hn::Max(found, hn::LoadU(tag, values + i));
  float maximum = hn::GetLane(hn::MaxOfLanes(tag, found));
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

// One line's products of whole blocks: what each block sums to, and the line's maximum.
float block_sums(const float* products, std::size_t vectors, std::size_t block_vectors, float* sums) {
  const float maximum = largest(products, vectors);
  const f32_vector base = hn::Set(f32_tag(), maximum);
  for (std::size_t first = 0; first < vectors; first += block_vectors)
    *sums++ = exponentials(products + first, std::min(block_vectors, vectors - first), base);
  return maximum;
}

template <class Elements>
HWY_INLINE void bounds_of(const std::byte* tile_bytes, std::size_t channels, const float* q, float* out) {
  const f32_tag tag;
  const auto* tile = reinterpret_cast<const typename Elements::storage*>(tile_bytes);
  for (std::size_t part = 0; part < tile_vectors; part += lanes) {
    f32_vector acc = hn::Zero(tag);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      // The corner on the query's side gives the larger product.
      const std::size_t corner = q[channel] > 0 ? channels + channel : channel;
      acc = hn::MulAdd(Elements::load(tile + corner * tile_vectors + part), hn::Set(tag, q[channel]), acc);
    }
    hn::StoreU(acc, tag, out + part);
  }
}

void tile_bounds(dtype type, const std::byte* tile, std::size_t channels, const float* q, float* out) {
  switch (type) {
    case dtype::f32:
      return bounds_of<f32_elements>(tile, channels, q, out);
    case dtype::bf16:
      return bounds_of<bf16_elements>(tile, channels, q, out);
    case dtype::f16:
      return bounds_of<f16_elements>(tile, channels, q, out);
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(tiles_products);
HWY_EXPORT(block_sums);
HWY_EXPORT(tile_bounds);

namespace {

constexpr std::uint32_t tile_width = score_tiles::tile_vectors;
constexpr std::uint32_t aimed_piece_vectors = 512;  // their products stay in the first-level cache

std::uint32_t tiles_of(std::uint32_t vectors) {
  return (vectors + tile_width - 1) / tile_width;
}

// A piece is made of whole blocks and whole tiles.
std::uint32_t piece_vectors(std::uint32_t block_vectors) {
  const std::uint32_t common = std::lcm(tile_width, block_vectors);
  return common * std::max(1U, aimed_piece_vectors / common);
}

std::uint32_t pieces_of(const softmax_blocks& item) {
  const std::uint32_t size = piece_vectors(item.block_vectors);
  return (item.keys->vectors() + size - 1) / size;
}

std::uint32_t blocks_of(const softmax_blocks& item) {
  return (item.keys->vectors() + item.block_vectors - 1) / item.block_vectors;
}

// Every piece has a maximum of its own, so that pieces depend on nothing.
void sum_piece(const softmax_blocks& item, std::uint32_t piece, float* maxima, workspace& memory) {
  const std::uint32_t size = piece_vectors(item.block_vectors);
  const std::uint32_t first = piece * size;
  const std::uint32_t vectors = std::min(size, item.keys->vectors() - first);
  const std::size_t stride = std::size_t{tiles_of(size)} * tile_width + tile_width;
  auto* products = reinterpret_cast<float*>(memory.reserve(item.lines * stride * sizeof(float)).data());
  HWY_DYNAMIC_DISPATCH(tiles_products)
  (item.keys->type(), item.keys->tile(first / tile_width), tiles_of(vectors), item.keys->channels(),
   item.queries, item.lines, products, stride);
  auto* const sum = &HWY_DYNAMIC_DISPATCH(block_sums);
  const std::uint32_t pieces = pieces_of(item);
  for (std::uint32_t line = 0; line < item.lines; ++line)
    maxima[line * pieces + piece] =
        sum(products + line * stride, vectors, item.block_vectors,
            item.sums + std::size_t{line} * blocks_of(item) + first / item.block_vectors);
}

void join_pieces(const softmax_blocks& item, const float* maxima) {
  const std::uint32_t pieces = pieces_of(item);
  const std::uint32_t blocks = blocks_of(item);
  const std::uint32_t piece_blocks = piece_vectors(item.block_vectors) / item.block_vectors;
  for (std::uint32_t line = 0; line < item.lines; ++line, maxima += pieces) {
    softmax_total total;
    for (std::uint32_t piece = 0; piece < pieces; ++piece)
      total.maximum = std::max(total.maximum, maxima[piece]);
    float* sums = item.sums + std::size_t{line} * blocks;
    for (std::uint32_t piece = 0; piece < pieces; ++piece) {
      const float factor = std::exp2(maxima[piece] - total.maximum);
      const std::uint32_t end = std::min(blocks, (piece + 1) * piece_blocks);
      for (std::uint32_t block = piece * piece_blocks; block < end; ++block)
        total.sum += sums[block] *= factor;
    }
    item.totals[line] = total;
  }
}

void check(const softmax_blocks& item) {
  if (item.keys == nullptr || item.block_vectors == 0)
    throw std::invalid_argument("softmax_block_sums: blocks need keys and at least one vector each");
}

}  // namespace

score_tiles::score_tiles(dtype type, std::uint32_t vectors, std::uint32_t channels)
    : memory_(std::size_t{tiles_of(vectors)} * tile_width * channels * kernels::size_bytes(type)),
      type_(type),
      vectors_(vectors),
      channels_(channels) {
  if (memory_.size_bytes() > 0) std::memset(memory_.data(), 0, memory_.size_bytes());
}

void score_tiles::set(std::uint32_t vector, std::span<const float> values) {
  if (vector >= vectors_ || values.size() != channels_)
    throw std::invalid_argument("score_tiles::set: no such vector, or one of another width");
  const std::size_t element = kernels::size_bytes(type_);
  std::byte* const first =
      memory_.data() + vector / tile_width * tile_bytes() + std::size_t{vector % tile_width} * element;
  for (std::size_t channel = 0; channel < values.size(); ++channel)
    from_f32(type_, &values[channel], first + channel * tile_width * element, 1);
}

void softmax_block_sums(std::span<const softmax_blocks> items, workspace& scratch, thread_pool& pool) {
  std::size_t maxima_count = 0;
  std::size_t tasks = 0;
  for (const softmax_blocks& item : items) {
    check(item);
    maxima_count += std::size_t{item.lines} * pieces_of(item);
    tasks += pieces_of(item);
  }
  auto* const maxima = reinterpret_cast<float*>(scratch.reserve(maxima_count * sizeof(float)).data());
  const auto for_item = [&](std::size_t task, auto&& call) {
    float* own = maxima;
    for (const softmax_blocks& item : items) {
      const std::uint32_t pieces = pieces_of(item);
      if (task < pieces) return call(item, static_cast<std::uint32_t>(task), own);
      task -= pieces;
      own += std::size_t{item.lines} * pieces;
    }
  };
  pool.parallel_for(tasks, [&](std::size_t task, unsigned worker) {
    for_item(task, [&](const softmax_blocks& item, std::uint32_t piece, float* own) {
      sum_piece(item, piece, own, pool.scratch(worker));
    });
  });
  const float* own = maxima;
  for (const softmax_blocks& item : items) {
    join_pieces(item, own);
    own += std::size_t{item.lines} * pieces_of(item);
  }
}

void vector_products(const score_tiles& keys, const float* queries, std::uint32_t lines, float* out,
                     thread_pool& pool) {
  auto* const multiply = &HWY_DYNAMIC_DISPATCH(tiles_products);
  pool.parallel_for(tiles_of(keys.vectors()), [&](std::size_t index, unsigned worker) {
    auto* products =
        reinterpret_cast<float*>(pool.scratch(worker).reserve(lines * tile_width * sizeof(float)).data());
    const auto at = static_cast<std::uint32_t>(index);
    multiply(keys.type(), keys.tile(at), 1, keys.channels(), queries, lines, products, tile_width);
    const std::uint32_t present = std::min(tile_width, keys.vectors() - at * tile_width);
    for (std::size_t line = 0; line < lines; ++line)
      std::copy_n(products + line * tile_width, present, out + line * keys.vectors() + index * tile_width);
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
