// What the blocks of tiles sum to, of vectors that are multiplied with lines of queries. Included once per
// target.
#if defined(WEFT_KERNELS_TILE_SUMS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_TILE_SUMS_INL
#undef WEFT_KERNELS_TILE_SUMS_INL
#else
#define WEFT_KERNELS_TILE_SUMS_INL
#endif

#include <hwy/highway.h>

#include "cpu/score_lines-inl.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Sums of adjacent lanes of a and then b.
HWY_INLINE f32_vector add_pairs(f32_vector a, f32_vector b) {
  return hn::Add(hn::ConcatEven(f32_tag(), b, a), hn::ConcatOdd(f32_tag(), b, a));
}

// Each run of `run` lanes of `count` vectors, one behind the other, becomes one lane.
template <std::size_t run, std::size_t count>
HWY_INLINE void sum_runs(f32_vector* values) {
  if constexpr (run > 1) {
    for (std::size_t i = 0; i < count / 2; ++i)
      values[i] = add_pairs(values[2 * i], values[2 * i + 1]);
    if constexpr (count == 1) values[0] = add_pairs(values[0], values[0]);
    sum_runs<run / 2, std::max<std::size_t>(1, count / 2)>(values);
  }
}

constexpr std::size_t score_vectors = score_width / lanes;  // a line's products with a tile

template <std::size_t lines, std::size_t block_vectors>
HWY_INLINE void store_block_sums(const f32_vector (&values)[lines][score_vectors], float* sums,
                                 std::size_t sums_stride) {
  constexpr std::size_t blocks = score_width / block_vectors;
  constexpr std::size_t added = std::max<std::size_t>(1, block_vectors / lanes);  // vectors of one block
  constexpr std::size_t count = lines * score_vectors / added;
  f32_vector list[count];
  for (std::size_t i = 0; i < count; ++i) {
    list[i] = values[i * added / score_vectors][i * added % score_vectors];
    for (std::size_t v = 1; v < added; ++v)
      list[i] = hn::Add(list[i], values[i * added / score_vectors][i * added % score_vectors + v]);
  }
  sum_runs<std::min(block_vectors, lanes), count>(list);
  float all[std::max(lanes, lines * blocks)];
  for (std::size_t i = 0; i * lanes < lines * blocks; ++i)
    hn::StoreU(list[i], f32_tag(), all + i * lanes);
  for (std::size_t line = 0; line < lines; ++line)
    std::memcpy(sums + line * sums_stride, all + line * blocks, blocks * sizeof(float));
}

// 2^x for any x: great where x is.
HWY_INLINE f32_vector bounded_exp2(f32_vector x) {
#if HWY_TARGET != HWY_AVX3
  x = hn::Min(x, hn::Set(f32_tag(), 127.0F));
#endif
  return exp2_of<true>(x);
}

// Block sums of values of one tile, one line behind the other.
template <std::size_t lines>
HWY_INLINE void store_sums_of(std::size_t block_vectors, const f32_vector (&values)[lines][score_vectors],
                              float* sums, std::size_t sums_stride) {
  switch (block_vectors) {
    case 4:
      return store_block_sums<lines, 4>(values, sums, sums_stride);
    case 8:
      return store_block_sums<lines, 8>(values, sums, sums_stride);
    case 16:
      return store_block_sums<lines, 16>(values, sums, sums_stride);
    case 32:
      return store_block_sums<lines, 32>(values, sums, sums_stride);
    default:
      return store_block_sums<lines, 64>(values, sums, sums_stride);
  }
}

// What the blocks of one tile sum to, over 2^base. Nothing leaves the registers in between, and memory is
// read at an even pace, which the CPU foresees by itself.
template <class Channels, std::size_t lines>
HWY_INLINE void tile_sums(const std::byte* tile, std::size_t channels, const float* q, const float* bases,
                          std::size_t block_vectors, float* sums, std::size_t sums_stride) {
  f32_vector values[lines][score_vectors];
  for (std::size_t part = 0; part < score_vectors; part += group) {
    f32_vector acc[lines][group];
    multiply_group<Channels>(tile, part * kernels::HWY_NAMESPACE::lanes, channels, q, acc);
    for (std::size_t line = 0; line < lines; ++line) {
      const f32_vector base = hn::Set(f32_tag(), bases[line]);
      for (std::size_t v = 0; v < group; ++v)
        values[line][part + v] = bounded_exp2(hn::Sub(acc[line][v], base));
    }
  }
  store_sums_of<lines>(block_vectors, values, sums, sums_stride);
}

template <class Channels>
void sums_of_lines(const key_tiles& keys, const float* q, std::size_t lines, const float* bases,
                   std::size_t block_vectors, float* sums, std::size_t sums_stride) {
  const std::size_t tile_blocks = score_width / block_vectors;
  in_passes<lines_at_once>(lines, [&]<std::size_t wide>(std::size_t line) HWY_ATTR {
    for (std::size_t i = 0; i < keys.count; ++i)
      tile_sums<Channels, wide>(keys.first + i * keys.tile_bytes, keys.channels, q + line * keys.channels,
                                bases + line, block_vectors, sums + line * sums_stride + i * tile_blocks,
                                sums_stride);
  });
}

// Blocks that all lie in one tile, over the maximum of their own products. Zeros fill the tile, and count
// nowhere.
template <class Channels, std::size_t lines>
HWY_INLINE void one_tile_sums(const key_tiles& keys, const float* q, std::size_t vectors,
                              std::size_t block_vectors, float* sums, std::size_t sums_stride,
                              softmax_total* totals) {
  const f32_tag tag;
  f32_vector values[lines][score_vectors];
  for (std::size_t part = 0; part < score_vectors; part += group) {
    f32_vector acc[lines][group];
    multiply_group<Channels>(keys.first, part * kernels::HWY_NAMESPACE::lanes, keys.channels, q, acc);
    for (std::size_t line = 0; line < lines; ++line)
      for (std::size_t v = 0; v < group; ++v)
        values[line][part + v] = acc[line][v];
  }
  const auto present = [&](std::size_t v) HWY_ATTR {
    const std::size_t first = v * kernels::HWY_NAMESPACE::lanes;
    return hn::FirstN(tag, vectors > first ? vectors - first : 0);
  };
  for (std::size_t line = 0; line < lines; ++line) {
    f32_vector largest = hn::Set(tag, least_product);
    for (std::size_t v = 0; v < score_vectors; ++v)
      largest = hn::Max(largest, hn::IfThenElse(present(v), values[line][v], largest));
    const f32_vector maximum = hn::MaxOfLanes(tag, largest);
    f32_vector sum = hn::Zero(tag);
    for (std::size_t v = 0; v < score_vectors; ++v) {
      const f32_vector below = hn::Sub(hn::IfThenElse(present(v), values[line][v], maximum), maximum);
      values[line][v] = hn::IfThenElseZero(present(v), exp2_of<true>(below));
      sum = hn::Add(sum, values[line][v]);
    }
    totals[line] = {hn::GetLane(maximum), hn::GetLane(hn::SumOfLanes(tag, sum))};
  }
  constexpr std::size_t most_blocks = score_width / 4;
  float padded[lines * most_blocks];
  store_sums_of<lines>(block_vectors, values, padded, most_blocks);
  for (std::size_t line = 0; line < lines; ++line)
    std::copy_n(padded + line * most_blocks, vectors / block_vectors, sums + line * sums_stride);
}

template <class Channels>
void one_tile_of_lines(const key_tiles& keys, const float* q, std::size_t lines, std::size_t vectors,
                       std::size_t block_vectors, float* sums, softmax_total* totals) {
  const std::size_t blocks = vectors / block_vectors;
  in_passes<lines_at_once>(lines, [&]<std::size_t wide>(std::size_t line) HWY_ATTR {
    one_tile_sums<Channels, wide>(keys, q + line * keys.channels, vectors, block_vectors,
                                  sums + line * blocks, blocks, totals + line);
  });
}

#endif

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
