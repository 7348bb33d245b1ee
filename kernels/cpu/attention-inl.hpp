// What prefill and decode attention are made of: packed tiles of keys and values, and the online softmax of a
// few query lines over them. A line is one query row of one query head.
#if defined(WEFT_KERNELS_ATTENTION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_ATTENTION_INL
#undef WEFT_KERNELS_ATTENTION_INL
#else
#define WEFT_KERNELS_ATTENTION_INL
#endif

#include <weft/kernels/dtype.hpp>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "cpu/attention_layout.hpp"
#include "cpu/numbers-inl.hpp"
#include "cpu/tile-inl.hpp"
#include "cpu/transpose-inl.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// bf16 keys and values as they are stored, multiplied natively.
#if WEFT_KERNELS_NATIVE_BF16
struct bf16_tiles {
  using steps = bf16_pair_steps;
  using weight = std::uint16_t;  // of a value row, after the exponential
  static constexpr bool quick_exponential = true;

  static HWY_INLINE void pack_keys(const std::byte* k, std::size_t rows, std::size_t head_dim,
                                   std::byte* out) {
    transpose_rows(reinterpret_cast<const std::uint32_t*>(k), head_dim / 2, rows, head_dim / 2,
                   reinterpret_cast<std::uint32_t*>(out));
  }

  // 32 values: block i has the i-th four of the first half, then the i-th four of the second.
  static HWY_INLINE auto halves_apart(const std::uint16_t* in) {
    alignas(64) static constexpr std::int32_t order[] = {0, 1, 8,  9,  2, 3, 10, 11,
                                                         4, 5, 12, 13, 6, 7, 14, 15};
    const hn::FixedTag<std::uint32_t, 16> pairs;
    const auto as_stored = hn::BitCast(pairs, hn::LoadU(hn::FixedTag<std::uint16_t, 32>(), in));
    return hn::BitCast(hn::FixedTag<std::uint16_t, 32>(),
                       hn::TableLookupLanes(as_stored, hn::SetTableIndices(pairs, order)));
  }

  static HWY_INLINE void pack_values(const std::byte* v, std::size_t rows, std::size_t head_dim,
                                     std::size_t columns, std::byte* out) {
    const hn::FixedTag<std::uint16_t, 32> tag;
    const auto* in = reinterpret_cast<const std::uint16_t*>(v);
    auto* pairs = reinterpret_cast<std::uint16_t*>(out);
    for (std::size_t row = 0; row < tile_columns; row += 2, pairs += 2 * columns) {
      const std::uint16_t* even = in + row * head_dim;
      const std::uint16_t* odd = even + head_dim;
      std::size_t d = 0;
      if (row + 1 < rows) {
        for (; d + 32 <= head_dim; d += 32) {
          const auto a = halves_apart(even + d);
          const auto b = halves_apart(odd + d);
          hn::StoreU(hn::InterleaveLower(tag, a, b), tag, pairs + 2 * d);
          hn::StoreU(hn::InterleaveUpper(tag, a, b), tag, pairs + 2 * d + 32);
        }
      }
      for (; d < columns; ++d) {
        pairs[2 * d] = row < rows && d < head_dim ? even[d] : 0;
        pairs[2 * d + 1] = row + 1 < rows && d < head_dim ? odd[d] : 0;
      }
    }
  }

  using query_elements = native_bf16_elements;

  // Two vectors of weights, to nearest even.
  static HWY_INLINE void store_weights(f32_vector low, f32_vector high, weight* out) {
    __m512i both;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(low.raw), "v"(high.raw));
    _mm512_storeu_si512(out, both);
  }
};
#endif

// Everything widened to f32.
template <class Elements>
struct f32_tiles {
  using steps = f32_steps;
  using weight = float;
  // Of what comes out of 16 bits.
  static constexpr bool quick_exponential = sizeof(typename Elements::storage) < sizeof(float);

  static HWY_INLINE void widen_row(const std::byte* in, std::size_t row, std::size_t head_dim, float* out) {
    const auto* source = reinterpret_cast<const typename Elements::storage*>(in) + row * head_dim;
    std::size_t d = 0;
    for (; d + lanes <= head_dim; d += lanes) {
      hn::StoreU(Elements::load(source + d), f32_tag(), out + d);
    }
    for (; d < head_dim; ++d)
      out[d] = Elements::widen(source[d]);
  }

  static HWY_INLINE void pack_keys(const std::byte* k, std::size_t rows, std::size_t head_dim,
                                   std::byte* out) {
    auto* keys = reinterpret_cast<std::uint32_t*>(out);
    // Four rows at a time through a buffer in cache.
    alignas(64) float wide[4 * max_head_dim];
    for (std::size_t row = 0; row < tile_columns; row += 4) {
      const std::size_t present = row < rows ? std::min<std::size_t>(4, rows - row) : 0;
      for (std::size_t i = 0; i < present; ++i)
        widen_row(k, row + i, head_dim, wide + i * head_dim);
      std::fill(wide + present * head_dim, wide + 4 * head_dim, 0.0F);
      transpose_four_rows(reinterpret_cast<const std::uint32_t*>(wide), head_dim, keys + row);
    }
  }

  static HWY_INLINE void transpose_four_rows(const std::uint32_t* in, std::size_t units, std::uint32_t* out) {
    std::size_t unit = 0;
#if HWY_TARGET != HWY_SCALAR
    const quad_tag tag;
    for (; unit + 4 <= units; unit += 4) {
      quad a = hn::LoadU(tag, in + unit);
      quad b = hn::LoadU(tag, in + units + unit);
      quad c = hn::LoadU(tag, in + 2 * units + unit);
      quad d = hn::LoadU(tag, in + 3 * units + unit);
      transpose_four(a, b, c, d);
      hn::StoreU(a, tag, out + unit * tile_columns);
      hn::StoreU(b, tag, out + (unit + 1) * tile_columns);
      hn::StoreU(c, tag, out + (unit + 2) * tile_columns);
      hn::StoreU(d, tag, out + (unit + 3) * tile_columns);
    }
#endif
    for (; unit < units; ++unit) {
      for (std::size_t row = 0; row < 4; ++row)
        out[unit * tile_columns + row] = in[row * units + unit];
    }
  }

  static HWY_INLINE void pack_values(const std::byte* v, std::size_t rows, std::size_t head_dim,
                                     std::size_t columns, std::byte* out) {
    auto* values = reinterpret_cast<float*>(out);
    for (std::size_t row = 0; row < tile_columns; ++row, values += columns) {
      if (row < rows) widen_row(v, row, head_dim, values);
      std::fill(values + (row < rows ? head_dim : 0), values + columns, 0.0F);
    }
  }

  using query_elements = f32_elements;

  static HWY_INLINE void store_weights(f32_vector low, f32_vector high, weight* out) {
    hn::StoreU(low, f32_tag(), out);
    hn::StoreU(high, f32_tag(), out + lanes);
  }
};

// One line's query, scaled, as the products take it.
template <class Tiles>
HWY_INLINE void store_query(const float* q, float factor, std::size_t head_dim,
                            typename Tiles::query_elements::storage* out) {
  const f32_vector factors = hn::Set(f32_tag(), factor);
  std::size_t d = 0;
  for (; d + lanes <= head_dim; d += lanes) {
    Tiles::query_elements::store(hn::Mul(hn::LoadU(f32_tag(), q + d), factors), out + d);
  }
  for (; d < head_dim; ++d)
    out[d] = Tiles::query_elements::narrow(q[d] * factor);
}

// Scores of some lines against `group_columns` keys, in base 2 (queries come scaled by log2 e).
template <class Tiles, int lines>
HWY_INLINE void score_group(const typename Tiles::steps::operand* q, std::size_t q_stride,
                            const std::byte* keys, std::size_t head_dim, accumulators* acc) {
  using steps = typename Tiles::steps;
  for (int line = 0; line < lines; ++line) {
    for (int v = 0; v < tile_vectors; ++v)
      acc[line][v] = hn::Zero(f32_tag());
  }
  multiply_steps<steps, lines, 0>(q, q_stride, keys, tile_columns * steps::column_bytes,
                                  head_dim / steps::values, acc);
}

HWY_INLINE void store_scores(const f32_vector* acc, float* scores) {
  for (int v = 0; v < tile_vectors; ++v)
    hn::StoreU(acc[v], f32_tag(), scores + v * lanes);
}

// The same of one subtile of keys, into memory.
template <class Tiles, int lines>
HWY_INLINE void score_keys(const typename Tiles::steps::operand* q, std::size_t q_stride,
                           const std::byte* keys, std::size_t head_dim, float* scores,
                           std::size_t scores_stride) {
  for (std::size_t column = 0; column < tile_columns; column += group_columns) {
    accumulators acc[lines];
    score_group<Tiles, lines>(q, q_stride, keys + column * Tiles::steps::column_bytes, head_dim, acc);
    for (int line = 0; line < lines; ++line)
      store_scores(acc[line], scores + line * scores_stride + column);
  }
}

// Gives the keys of one subtile that a line does not see the hidden score; scores: [lines][scores_stride].
template <int lines>
HWY_INLINE void hide_keys(const std::int32_t* positions, const std::int32_t* segments,
                          const std::int32_t* key_positions, const std::int32_t* key_segments, float* scores,
                          std::size_t scores_stride) {
  const f32_tag tag;
  const i32_tag integers;
  const f32_vector hidden_scores = hn::Set(tag, hidden_score);
  for (int line = 0; line < lines; ++line, scores += scores_stride) {
    const auto position = hn::Set(integers, positions[line]);
    for (std::size_t column = 0; column < tile_columns; column += lanes) {
      auto hidden = hn::Gt(hn::LoadU(integers, key_positions + column), position);
      if (segments[line] != 0) {
        const auto of_keys = hn::LoadU(integers, key_segments + column);
        hidden = hn::Or(hidden, hn::Ne(of_keys, hn::Set(integers, segments[line])));
      }
      const f32_vector score = hn::LoadU(tag, scores + column);
      hn::StoreU(hn::IfThenElse(hn::RebindMask(tag, hidden), hidden_scores, score), tag, scores + column);
    }
  }
}

// The running softmax of one line: scores seen so far are worth sum * 2^maximum.
struct line_state {
  float maximum;
  float sum;
};

HWY_INLINE float largest_score(const float* scores, const subtile_list& subtiles) {
  const f32_tag tag;
  f32_vector largest[tile_vectors];  // more than one: a maximum waits for the one before it
  for (int v = 0; v < tile_vectors; ++v)
    largest[v] = hn::Set(tag, hidden_score);
  for (std::size_t i = 0; i < subtiles.count; ++i) {
    const float* part = scores + subtiles.index[i] * tile_columns;
    for (std::size_t column = 0; column < tile_columns; column += group_columns)
      for (int v = 0; v < tile_vectors; ++v)
        largest[v] = hn::Max(largest[v], hn::LoadU(tag, part + column + v * lanes));
  }
  for (int v = 1; v < tile_vectors; ++v)
    largest[0] = hn::Max(largest[0], largest[v]);
  return hn::GetLane(hn::MaxOfLanes(tag, largest[0]));
}

// Turns one line's scores, the largest of which is known, into weights and returns the factor for what was
// summed before.
template <class Tiles>
HWY_INLINE float weigh_scores(const float* scores, const subtile_list& subtiles, float largest,
                              typename Tiles::weight* weights, line_state& state) {
  const f32_tag tag;
  const float maximum = std::max(state.maximum, largest);
  // Of a line that has seen nothing yet every weight is zero, whatever is subtracted.
  const f32_vector base = hn::Set(tag, maximum < nothing_seen ? 0.0F : maximum);
  const float before = hn::GetLane(exp2_of<false>(hn::Sub(hn::Set(tag, state.maximum), base)));
  f32_vector sums[2] = {hn::Zero(tag), hn::Zero(tag)};
  for (std::size_t i = 0; i < subtiles.count; ++i) {
    const std::size_t first = subtiles.index[i] * tile_columns;
    for (std::size_t column = first; column < first + tile_columns; column += 2 * lanes) {
      const f32_vector low = hn::LoadU(tag, scores + column);
      const f32_vector high = hn::LoadU(tag, scores + column + lanes);
      const f32_vector low_weight = exp2_of<Tiles::quick_exponential>(hn::Sub(low, base));
      const f32_vector high_weight = exp2_of<Tiles::quick_exponential>(hn::Sub(high, base));
      sums[0] = hn::Add(sums[0], low_weight);
      sums[1] = hn::Add(sums[1], high_weight);
      Tiles::store_weights(low_weight, high_weight, weights + column);
    }
  }
  state.sum = state.sum * before + hn::GetLane(hn::SumOfLanes(tag, hn::Add(sums[0], sums[1])));
  state.maximum = maximum;
  return before;
}

// The weights of one line's scores of `group_columns` keys, relative to a base that need not be its largest;
// returns their sums by lane. A score too far above the base to have a weight gives a sum beyond every bound.
template <class Tiles>
HWY_INLINE f32_vector weigh_group(const f32_vector* scores, f32_vector base,
                                  typename Tiles::weight* weights) {
  f32_vector sum;
  for (int v = 0; v < tile_vectors; v += 2) {
    f32_vector pair[2];
    for (int i = 0; i < 2; ++i) {
      f32_vector above = hn::Sub(scores[v + i], base);
#if HWY_TARGET != HWY_AVX3
      above = hn::Min(above, hn::Set(f32_tag(), 127.0F));
#endif
      pair[i] = exp2_of<Tiles::quick_exponential>(above);
    }
    Tiles::store_weights(pair[0], pair[1], weights + v * lanes);
    const f32_vector both = hn::Add(pair[0], pair[1]);
    sum = v == 0 ? both : hn::Add(sum, both);
  }
  return sum;
}

// The same of the scores of several subtiles in memory.
template <class Tiles>
HWY_INLINE f32_vector weigh_subtiles(const float* scores, const subtile_list& subtiles, f32_vector base,
                                     typename Tiles::weight* weights) {
  f32_vector sum = hn::Zero(f32_tag());
  for (std::size_t i = 0; i < subtiles.count; ++i) {
    const std::size_t first = subtiles.index[i] * tile_columns;
    for (std::size_t column = first; column < first + tile_columns; column += group_columns) {
      f32_vector group[tile_vectors];
      for (int v = 0; v < tile_vectors; ++v)
        group[v] = hn::LoadU(f32_tag(), scores + column + v * lanes);
      sum = hn::Add(sum, weigh_group<Tiles>(group, base, weights + column));
    }
  }
  return sum;
}

// out = out * factor + weights * values, per line, of a tile of `rows` rows; out: [lines][columns].
template <class Tiles, int lines>
HWY_INLINE void add_values(const typename Tiles::weight* weights, std::size_t weights_stride,
                           std::size_t rows, const subtile_list& subtiles, const std::byte* values,
                           std::size_t subtile_bytes, std::size_t columns, const float* factors, float* out) {
  using steps = typename Tiles::steps;
  for (std::size_t column = 0; column < columns; column += group_columns) {
    accumulators acc[lines];
    for (int line = 0; line < lines; ++line) {
      const f32_vector factor = hn::Set(f32_tag(), factors[line]);
      for (int v = 0; v < tile_vectors; ++v) {
        acc[line][v] = hn::Mul(factor, hn::LoadU(f32_tag(), out + line * columns + column + v * lanes));
      }
    }
    for (std::size_t i = 0; i < subtiles.count; ++i) {
      const std::size_t subtile = subtiles.index[i];
      const std::size_t present = std::min(tile_columns, rows - subtile * tile_columns);
      multiply_steps<steps, lines, 0>(weights + subtile * tile_columns, weights_stride,
                                      values + subtile * subtile_bytes + column * steps::column_bytes,
                                      columns * steps::column_bytes,
                                      (present + steps::values - 1) / steps::values, acc);
    }
    for (int line = 0; line < lines; ++line) {
      for (int v = 0; v < tile_vectors; ++v) {
        hn::StoreU(acc[line][v], f32_tag(), out + line * columns + column + v * lanes);
      }
    }
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
