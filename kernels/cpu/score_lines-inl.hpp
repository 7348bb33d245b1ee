// Tiles of vectors that are scored, multiplied with lines of queries. Included once per target.
#if defined(WEFT_KERNELS_SCORE_LINES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_SCORE_LINES_INL
#undef WEFT_KERNELS_SCORE_LINES_INL
#else
#define WEFT_KERNELS_SCORE_LINES_INL
#endif

#include <weft/kernels/block_scores.hpp>

#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"
#include "cpu/score_piece.hpp"
#include "cpu/tile-inl.hpp"

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

constexpr std::size_t score_width = score_tiles::tile_vectors;
constexpr std::size_t group = tile_vectors;  // vectors of rows at once, which register tiles are made of
constexpr std::size_t most_lines = 6;

// How tiles' channels are multiplied with lines of queries, a group of `together` channels at a time; for
// `group` vectors of rows: a step. Two channels of bf16 from one load.
struct bf16_pairs {
  static constexpr std::size_t together = 2;
  using keys = u32_vector;
  static constexpr std::size_t step_bytes = score_width * sizeof(std::uint32_t);
  static HWY_INLINE keys load(const std::byte* step, std::size_t part) {
    return hn::LoadU(u32_tag(), reinterpret_cast<const std::uint32_t*>(step) + part);
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
    const keys both = load(tile + channel / together * step_bytes, part);
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
#endif

template <class Elements>
struct single_channels {
  static constexpr std::size_t together = 1;
  using keys = f32_vector;
  static constexpr std::size_t step_bytes = score_width * sizeof(typename Elements::storage);
  static HWY_INLINE keys load(const std::byte* step, std::size_t part) {
    return Elements::load(reinterpret_cast<const typename Elements::storage*>(step) + part);
  }
  static HWY_INLINE f32_vector channel_of(const std::byte* tile, std::size_t channel, std::size_t part) {
    return load(tile + channel * step_bytes, part);
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

// Products of some lines with a group of a tile's vectors, which begins at `part`.
template <class Channels, std::size_t lines>
HWY_INLINE void multiply_group(const std::byte* tile, std::size_t part, std::size_t channels, const float* q,
                               f32_vector (&acc)[lines][group]) {
  for (std::size_t line = 0; line < lines; ++line)
    for (std::size_t v = 0; v < group; ++v)
      acc[line][v] = hn::Zero(f32_tag());
  for (std::size_t channel = 0; channel < channels; channel += Channels::together) {
    typename Channels::keys keys[group];
    for (std::size_t v = 0; v < group; ++v)
      keys[v] = Channels::load(tile, part + v * kernels::HWY_NAMESPACE::lanes);
    Channels::template add<lines>(keys, q + channel, channels, acc);
    tile += Channels::step_bytes;
  }
}

// Runs `pass` with as many lines at once as registers hold, then with what is left.
template <std::size_t most, class Pass>
HWY_INLINE void in_passes(std::size_t lines, Pass&& pass) {
  std::size_t line = 0;
  const auto some = [&]<std::size_t wide>() HWY_ATTR {
    for (; line + wide <= lines; line += wide)
      pass.template operator()<wide>(line);
  };
  some.template operator()<most>();
  if constexpr (most > 4) some.template operator()<4>();
  some.template operator()<2>();
  some.template operator()<1>();
}

// Calls `task` with what multiplies such tiles.
template <class Task>
void with_channels(const key_tiles& keys, Task&& task) {
  switch (keys.type) {
    case dtype::f32:
      return task.template operator()<single_channels<f32_elements>>();
    case dtype::f16:
      return task.template operator()<single_channels<f16_elements>>();
    case dtype::bf16:
      break;
  }
#if WEFT_KERNELS_NATIVE_BF16
  if (keys.operands == dtype::bf16) return task.template operator()<native_bf16_pairs>();
#endif
  task.template operator()<bf16_pairs>();
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
