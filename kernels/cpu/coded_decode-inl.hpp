// Decode attention of four query heads at once on rows in int8 or int4, straight from their codes: products
// of bytes with 32-bit sums (AVX512_VNNI), scales applied to the sums.
//
// Scores: queries become bytes by a scale for each head, which are off by as much as int8 keys are. A chunk
// of 16 codes is broadcast to four heads by the load itself, and the sum over a row is exact. Values: the
// weights of a tile, times the rows' scales, become integers of 16 bits in two bytes; the codes of four rows
// are interleaved in registers, so that a product sums over four rows. A weight is off by at most 2^-16 of
// the largest one so far.
#if defined(WEFT_KERNELS_CODED_DECODE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_CODED_DECODE_INL
#undef WEFT_KERNELS_CODED_DECODE_INL
#else
#define WEFT_KERNELS_CODED_DECODE_INL
#endif

#include <hwy/highway.h>

#include "cpu/attention_layout.hpp"
#include "cpu/decode_piece.hpp"
#include "cpu/dot_bytes-inl.hpp"
#include "cpu/grouped_decode-inl.hpp"
#include "cpu/heads_softmax-inl.hpp"
#include "cpu/row_codec-inl.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

#if WEFT_KERNELS_NATIVE_BF16

constexpr std::size_t chunk_codes = 16;  // of one head in a vector
constexpr std::size_t code_columns = 64;

HWY_INLINE __m512i add_pairs_of_integers(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

// Four rows' sums, [head][part of the sum] each, to [head][row].
HWY_INLINE __m512 add_integer_parts(const __m512i* rows) {
  const __m512i r01 = add_pairs_of_integers(rows[0], rows[1]);
  const __m512i r23 = add_pairs_of_integers(rows[2], rows[3]);
  return _mm512_cvtepi32_ps(
      _mm512_add_epi32(_mm512_unpacklo_epi64(r01, r23), _mm512_unpackhi_epi64(r01, r23)));
}

// An integer of 16 bits is 256 * high + low, both signed bytes; it is at most this.
constexpr float most_of_signed_bytes = 32639.0F;

// bf16 scales [row][groups] as f32 [group][coded_tile_rows]; zeros behind the last row. Returns each
// group's largest magnitude.
HWY_INLINE void widen_scales(const std::uint16_t* scales, std::size_t rows, std::size_t padded,
                             std::size_t groups, float* out, float* largest) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  for (std::size_t group = 0; group < groups; ++group) {
    std::size_t row = 0;
    float* const of_group = out + group * coded_tile_rows;
    if (groups == 1)
      for (; row + 16 <= rows; row += 16)
        _mm512_storeu_si512(
            of_group + row,
            _mm512_slli_epi32(
                _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + row))),
                16));
    if (groups == 2)
      for (; row + 16 <= rows; row += 16) {
        const __m512i both = _mm512_loadu_si512(scales + 2 * row);
        _mm512_storeu_si512(of_group + row,
                            group == 0 ? _mm512_slli_epi32(both, 16) : _mm512_and_si512(both, upper));
      }
    for (; row < rows; ++row)
      of_group[row] = f32_from_bf16(scales[row * groups + group]);
    std::fill(of_group + rows, of_group + padded, 0.0F);
    largest[group] = largest_magnitude(of_group, padded);
  }
}

// Sixteen values of a query head as integers of `scale`.
HWY_INLINE __m512i integers_of(const float* q, float scale) {
  return _mm512_cvtps_epi32(
      _mm512_mul_ps(_mm512_loadu_ps(q), _mm512_set1_ps(scale > 0 ? 1.0F / scale : 0.0F)));
}

// A head's scale: its largest magnitude becomes `most`. 0 for a head of zeros.
HWY_INLINE float integer_scale(const float* q, std::size_t head_dim, float most) {
  return largest_magnitude(q, head_dim) / most;
}

HWY_INLINE void store_low_bytes(__m512i integers, std::int8_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(integers));
}

// What both codecs share: the running softmax of four heads over tiles of rows.
class coded_softmax {
 public:
  static constexpr std::size_t most_groups = max_head_dim / int4_group_channels;

  coded_softmax(std::size_t head_dim, std::byte* scratch) : head_dim_(head_dim), memory_(head_dim, scratch) {
    std::fill_n(memory_.sums, heads_at_once * head_dim, 0.0F);
  }

 protected:
  // [chunk][head][16], each head by a scale of its own.
  void store_queries(const float* q) {
    alignas(64) float scales[lanes];
    for (std::size_t head = 0; head < heads_at_once; ++head) {
      const float scale = integer_scale(q + head * head_dim_, head_dim_, 127.0F);
      std::fill_n(scales + head * 4, 4, scale);
      for (std::size_t d = 0; d < head_dim_; d += chunk_codes)
        store_low_bytes(integers_of(q + head * head_dim_ + d, scale),
                        memory_.queries + d * heads_at_once + head * chunk_codes);
    }
    query_scales_ = _mm512_load_ps(scales);
  }

  // Scores become weights in place; `factors` are for what was summed before.
  void weigh(std::size_t rows, std::size_t padded, float* factors) {
    heads_softmax::hide_rows(rows, padded, memory_.scores);
    softmax_.weigh(memory_.scores, padded / 4, factors, [this](std::size_t i, f32_vector weight) HWY_ATTR {
      hn::Store(weight, f32_tag(), memory_.scores + i * lanes);
    });
  }

  // Weights of four rows times their scales times `factor` as integers, [head][row].
  __m512i weight_integers(std::size_t quad, const float* scales, __m512 factor) const {
    const __m512 by_row = _mm512_mul_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(scales + quad * 4)), factor);
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(memory_.scores + quad * lanes), by_row));
  }

  static __m512 weight_factor(float largest_scale, float most) {
    return _mm512_set1_ps(largest_scale > 0 ? most / largest_scale : 0.0F);
  }

  // A vector for each head and eight rows.
  static constexpr std::size_t weight_bytes = coded_tile_rows / 8 * heads_at_once * 64;

  struct memory {
    memory(std::size_t head_dim, std::byte* scratch)
        : sums(reinterpret_cast<float*>(scratch)),
          scores(sums + heads_at_once * head_dim),
          k_scales(scores + heads_at_once * coded_tile_rows),
          v_scales(k_scales + most_groups * coded_tile_rows),
          high_weights(reinterpret_cast<std::int8_t*>(v_scales + most_groups * coded_tile_rows)),
          low_weights(high_weights + weight_bytes),
          queries(low_weights + weight_bytes) {}
    float* sums;
    float* scores;    // [row / 4][head][4], then the weights
    float* k_scales;  // [group][coded_tile_rows]
    float* v_scales;
    std::int8_t* high_weights;  // as the products take them
    std::int8_t* low_weights;
    std::int8_t* queries;  // [chunk][head][16]
  };

  std::size_t head_dim_;
  memory memory_;
  heads_softmax softmax_;
  __m512 query_scales_;
};

class int8_decode : coded_softmax {
 public:
  static constexpr row_codec coding = row_codec::int8;

  // q: [4][head_dim] f32 queries scaled to base 2; heads beyond the group are zero.
  int8_decode(std::size_t head_dim, const float* q, std::byte* scratch) : coded_softmax(head_dim, scratch) {
    store_queries(q);
    // Keys are read as unsigned bytes, which are 128 too large.
    const __m512i too_much = _mm512_set1_epi8(static_cast<char>(0x80));
    __m512i sum = _mm512_setzero_si512();
    for (std::size_t d = 0; d < head_dim; d += chunk_codes)
      sum = dot_bytes(sum, too_much, _mm512_loadu_si512(memory_.queries + d * heads_at_once));
    start_ = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
  }

  // The next rows, at most `coded_tile_rows`; there are codes for a multiple of `score_rows`.
  void attend(const code_tile& tile, std::size_t rows) {
    const std::size_t padded = padded_rows(rows);
    float largest = 0;
    widen_scales(tile.k_scales, rows, padded, 1, memory_.k_scales, &largest);
    widen_scales(tile.v_scales, rows, padded, 1, memory_.v_scales, &largest);
    score(tile.k, padded);
    float factors[heads_at_once];
    weigh(rows, padded, factors);
    split_weights(padded / 4, largest, tile.k);
    const float unit = largest / 65535.0F;
    for (std::size_t column = 0; column < head_dim_; column += code_columns) {
      add_values<0>(tile.v + column, padded, factors, unit, memory_.sums + column * heads_at_once);
      add_values<1>(tile.v + column, padded, factors, unit,
                    memory_.sums + column * heads_at_once + heads_at_once * code_columns / 2);
    }
  }

  void store(std::size_t heads, std::size_t first_head, const partial_result& out) const {
    for (std::size_t head = 0; head < heads; ++head) {
      out.maxima[first_head + head] = softmax_.maximum(head);
      out.weights[first_head + head] = softmax_.weight(head);
      for (std::size_t d = 0; d < head_dim_; ++d)
        out.sums[(first_head + head) * padded_head_dim(head_dim_) + d] = memory_.sums[sum_index(head, d)];
    }
  }

 private:
  // Interleaving four rows leaves the columns of every 16 bytes in four vectors, two for each half.
  static std::size_t sum_index(std::size_t head, std::size_t d) {
    const std::size_t in_block = d % 16;
    const std::size_t half = d / code_columns * 2 + in_block / 8;
    const std::size_t lane = d % code_columns / 16 * 4 + in_block % 4;
    return ((half * heads_at_once + head) * 2 + in_block % 8 / 4) * lanes + lane;
  }

  // Unsigned bytes: [row / 4][head] of four rows.
  void split_weights(std::size_t quads, float largest_scale, const std::byte* k) {
    const __m512 factor = weight_factor(largest_scale, 65535.0F);
    for (std::size_t i = 0; i < quads; ++i) {
      const __m512i weight = weight_integers(i, memory_.v_scales, factor);
      store_low_bytes(_mm512_srli_epi32(weight, 8), memory_.high_weights + i * lanes);
      store_low_bytes(weight, memory_.low_weights + i * lanes);
      prefetch(k + (i / 2 * score_rows + score_rows / 2 + i % 2 * 2) * head_dim_, 2 * head_dim_);
    }
  }

  // Of one head and four rows.
  static HWY_INLINE __m512i four_weights(const std::int8_t* weights) {
    std::int32_t four;
    std::memcpy(&four, weights, sizeof four);
    return _mm512_set1_epi32(four);
  }

  void score(const std::byte* k, std::size_t rows_to_score) {
    const __m512i unsign = _mm512_set1_epi8(static_cast<char>(0x80));
    for (std::size_t row = 0; row < rows_to_score; row += score_rows) {
      const std::byte* rows = k + row * head_dim_;
      __m512i sums[score_rows];
      for (__m512i& sum : sums)
        sum = start_;
      for (std::size_t d = 0; d < head_dim_; d += chunk_codes) {
        const __m512i query = _mm512_loadu_si512(memory_.queries + d * heads_at_once);
        for (std::size_t i = 0; i < score_rows; ++i) {
          const auto* chunk = reinterpret_cast<const __m128i*>(rows + i * head_dim_ + d);
          const __m512i key = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128(chunk)), unsign);
          sums[i] = dot_bytes(sums[i], key, query);
        }
      }
      for (std::size_t i = 0; i < score_rows; i += 4) {
        const __m512 scales =
            _mm512_mul_ps(query_scales_, _mm512_broadcast_f32x4(_mm_loadu_ps(memory_.k_scales + row + i)));
        _mm512_store_ps(memory_.scores + (row + i) * heads_at_once,
                        _mm512_mul_ps(add_integer_parts(sums + i), scales));
      }
      prefetch(rows, score_rows / 2 * head_dim_);
    }
  }

  // The same place one tile further on: it is needed when this tile's values have been added.
  void prefetch(const std::byte* rows, std::size_t size_bytes) const {
    const std::byte* next = rows + coded_tile_rows * head_dim_;
    for (std::size_t line = 0; line < size_bytes; line += 64)
      __builtin_prefetch(next + line, 0, 2);
  }

  // Half of the columns of each 16 bytes, of `code_columns`. sums: [4 heads][2 vectors].
  template <int half>
  void add_values(const std::byte* v, std::size_t rows, const float* factors, float unit, float* sums) {
    __m512i high[heads_at_once][2], low[heads_at_once][2];
    for (std::size_t head = 0; head < heads_at_once; ++head)
      for (std::size_t i = 0; i < 2; ++i)
        high[head][i] = low[head][i] = _mm512_setzero_si512();
    for (std::size_t row = 0; row < rows; row += 4) {
      const std::byte* first = v + row * head_dim_;
      const __m512i a = interleave<half>(first, first + head_dim_);
      const __m512i b = interleave<half>(first + 2 * head_dim_, first + 3 * head_dim_);
      const __m512i values[2] = {_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)};
      for (std::size_t head = 0; head < heads_at_once; ++head) {
        const __m512i upper = four_weights(memory_.high_weights + row * heads_at_once + head * 4);
        const __m512i lower = four_weights(memory_.low_weights + row * heads_at_once + head * 4);
        for (std::size_t i = 0; i < 2; ++i) {
          high[head][i] = dot_bytes(high[head][i], upper, values[i]);
          low[head][i] = dot_bytes(low[head][i], lower, values[i]);
        }
      }
      for (std::size_t i = 2 * half; i < 2 * half + 2; ++i)
        __builtin_prefetch(first + (coded_tile_rows + i) * head_dim_, 0, 2);
    }
    for (std::size_t head = 0; head < heads_at_once; ++head)
      for (std::size_t i = 0; i < 2; ++i) {
        float* const sum = sums + (head * 2 + i) * lanes;
        const __m512 before = _mm512_mul_ps(_mm512_set1_ps(factors[head]), _mm512_loadu_ps(sum));
        const __m512i added = _mm512_add_epi32(_mm512_slli_epi32(high[head][i], 8), low[head][i]);
        _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_cvtepi32_ps(added), _mm512_set1_ps(unit), before));
      }
  }

  template <int half>
  static HWY_INLINE __m512i interleave(const std::byte* even, const std::byte* odd) {
    const __m512i a = _mm512_loadu_si512(even);
    const __m512i b = _mm512_loadu_si512(odd);
    return half == 0 ? _mm512_unpacklo_epi8(a, b) : _mm512_unpackhi_epi8(a, b);
  }

  __m512i start_;
};

class int4_decode : coded_softmax {
 public:
  static constexpr row_codec coding = row_codec::int4;

  int4_decode(std::size_t head_dim, const float* q, std::byte* scratch) : coded_softmax(head_dim, scratch) {
    store_queries(q);
    // Codes are 8 too large.
    const __m512i too_much = _mm512_set1_epi8(8);
    for (std::size_t group = 0; group < groups(); ++group) {
      const std::int8_t* query = memory_.queries + group * int4_group_channels * heads_at_once;
      __m512i sum = dot_bytes(_mm512_setzero_si512(), too_much, _mm512_loadu_si512(query));
      sum = dot_bytes(sum, too_much, _mm512_loadu_si512(query + chunk_codes * heads_at_once));
      _mm512_store_si512(starts_[group], _mm512_sub_epi32(_mm512_setzero_si512(), sum));
    }
  }

  void attend(const code_tile& tile, std::size_t rows) {
    const std::size_t padded = padded_rows(rows);
    float largest[most_groups];
    widen_scales(tile.k_scales, rows, padded, groups(), memory_.k_scales, largest);
    widen_scales(tile.v_scales, rows, padded, groups(), memory_.v_scales, largest);
    const auto score_all = [&]<std::size_t fixed_dim>() HWY_ATTR {
      for (std::size_t row = 0; row < padded; row += score_rows)
        score<fixed_dim>(tile.k + row * row_bytes(), row);
    };
    if (head_dim_ == code_columns)
      score_all.template operator()<code_columns>();
    else
      score_all.template operator()<0>();
    float factors[heads_at_once];
    weigh(rows, padded, factors);
    for (std::size_t column = 0; column < head_dim_; column += code_columns)
      add_columns(tile.v + column / 2, padded, column, largest + column / int4_group_channels, factors);
  }

  void store(std::size_t heads, std::size_t first_head, const partial_result& out) const {
    for (std::size_t head = 0; head < heads; ++head) {
      out.maxima[first_head + head] = softmax_.maximum(head);
      out.weights[first_head + head] = softmax_.weight(head);
      for (std::size_t d = 0; d < head_dim_; ++d)
        out.sums[(first_head + head) * padded_head_dim(head_dim_) + d] = memory_.sums[sum_index(head, d)];
    }
  }

 private:
  static constexpr std::size_t half_lanes = lanes / 2;
  static constexpr std::size_t parts = 4;  // of 64 columns: eight bytes of each group, lower or upper halves

  std::size_t groups() const { return head_dim_ / int4_group_channels; }
  std::size_t row_bytes() const { return head_dim_ / 2; }

  static std::size_t sum_index(std::size_t head, std::size_t d) {
    const std::size_t byte = d % 16;
    const std::size_t part = d / code_columns * parts + byte / 8 * 2 + d % int4_group_channels / 16;
    const std::size_t lane = d % code_columns / int4_group_channels * 4 + byte % 4;
    return ((part * heads_at_once + head) * 2 + byte % 8 / 4) * half_lanes + lane;
  }

  // Eight rows, group by group. `fixed_dim`: the head dimension where it is known, else 0.
  template <std::size_t fixed_dim>
  HWY_INLINE void score(const std::byte* rows, std::size_t first_row) {
    const std::size_t all_groups = fixed_dim != 0 ? fixed_dim / int4_group_channels : groups();
    const std::size_t width = fixed_dim != 0 ? fixed_dim / 2 : row_bytes();
    const __m512i lower_half = _mm512_set1_epi8(15);
    __m512 scores[score_rows / 4] = {};
    for (std::size_t group = 0; group < all_groups; ++group) {
      const std::int8_t* query = memory_.queries + group * int4_group_channels * heads_at_once;
      const __m512i first_query = _mm512_loadu_si512(query);
      const __m512i second_query = _mm512_loadu_si512(query + chunk_codes * heads_at_once);
      __m512i sums[score_rows];
      for (std::size_t i = 0; i < score_rows; ++i) {
        const auto* codes = reinterpret_cast<const __m128i*>(rows + i * width + group * chunk_codes);
        const __m512i both = _mm512_broadcast_i32x4(_mm_loadu_si128(codes));
        sums[i] =
            dot_bytes(_mm512_load_si512(starts_[group]), _mm512_and_si512(both, lower_half), first_query);
        sums[i] = dot_bytes(sums[i], _mm512_and_si512(_mm512_srli_epi16(both, 4), lower_half), second_query);
      }
      const float* scales = memory_.k_scales + group * coded_tile_rows + first_row;
      for (std::size_t i = 0; i < score_rows; i += 4)
        scores[i / 4] = _mm512_fmadd_ps(add_integer_parts(sums + i),
                                        _mm512_broadcast_f32x4(_mm_loadu_ps(scales + i)), scores[i / 4]);
    }
    for (std::size_t i = 0; i < score_rows; i += 4)
      _mm512_store_ps(memory_.scores + (first_row + i) * heads_at_once,
                      _mm512_mul_ps(scores[i / 4], query_scales_));
    const std::byte* next = rows + coded_tile_rows * width;
    for (std::size_t line = 0; line < score_rows * width; line += 64)
      __builtin_prefetch(next + line, 0, 2);
  }

  // Two groups: their weights, then their columns.
  void add_columns(const std::byte* v, std::size_t rows, std::size_t column, const float* largest,
                   const float* factors) {
    spread_weights(rows / 8, column / int4_group_channels, largest);
    const __m256 units = _mm256_set_m128(_mm_set1_ps(largest[1] / most_of_signed_bytes),
                                         _mm_set1_ps(largest[0] / most_of_signed_bytes));
    float* const sums = memory_.sums + column * heads_at_once;
    constexpr std::size_t part_sums = heads_at_once * 2 * half_lanes;
    const auto add_all = [&]<bool dense>() HWY_ATTR {
      add_values<0, 0, dense>(v, rows, factors, units, sums);
      add_values<0, 1, dense>(v, rows, factors, units, sums + part_sums);
      add_values<1, 0, dense>(v, rows, factors, units, sums + 2 * part_sums);
      add_values<1, 1, dense>(v, rows, factors, units, sums + 3 * part_sums);
    };
    if (head_dim_ == code_columns)
      add_all.template operator()<true>();
    else
      add_all.template operator()<false>();
    for (std::size_t byte = 0; byte < rows * row_bytes(); byte += 64)
      __builtin_prefetch(v + coded_tile_rows * row_bytes() + byte, 0, 2);
  }

  // By head the bytes of eight rows' weights in the order of `add_values`: the upper ones of rows 0, 2, 4, 6
  // and of 1, 3, 5, 7, then the lower ones.
  static HWY_INLINE __m512i even_and_odd(__m512i first_rows, __m512i last_rows) {
    const __m512i upper =
        _mm512_broadcast_i32x4(_mm_setr_epi8(1, 5, 9, 13, 3, 7, 11, 15, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512i lower =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 8, 12, 2, 6, 10, 14));
    constexpr __mmask64 lower_bytes = 0xFF00FF00FF00FF00U;
    const __m512i weights = _mm512_packs_epi32(first_rows, last_rows);
    const __m512i rounded = _mm512_add_epi16(weights, _mm512_set1_epi16(128));
    return _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(rounded, upper), lower_bytes, weights, lower);
  }

  // By eight rows and head a vector of which each quarter repeats four weights: of even rows for the first
  // and the second group, then of odd ones. Takes down what codes that are 8 too large will add.
  void spread_weights(std::size_t octets, std::size_t first_group, const float* largest) {
    constexpr int other_group = 16;
    const __m512i quarters =
        _mm512_setr_epi32(0, 0, 0, 0, other_group, other_group, other_group, other_group, 1, 1, 1, 1,
                          other_group + 1, other_group + 1, other_group + 1, other_group + 1);
    const __m512 factor[2] = {weight_factor(largest[0], most_of_signed_bytes),
                              weight_factor(largest[1], most_of_signed_bytes)};
    __m512i totals[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (std::size_t octet = 0; octet < octets; ++octet) {
      __m512i bytes[2];
      for (std::size_t group = 0; group < 2; ++group) {
        const float* scales = memory_.v_scales + (first_group + group) * coded_tile_rows;
        const __m512i first = weight_integers(2 * octet, scales, factor[group]);
        const __m512i last = weight_integers(2 * octet + 1, scales, factor[group]);
        totals[group] = _mm512_add_epi32(totals[group], _mm512_add_epi32(first, last));
        bytes[group] = even_and_odd(first, last);
      }
      for (int head = 0; head < static_cast<int>(heads_at_once); ++head) {
        const __m512i upper = _mm512_add_epi32(quarters, _mm512_set1_epi32(4 * head));
        const __m512i lower = _mm512_add_epi32(quarters, _mm512_set1_epi32(4 * head + 2));
        const std::size_t at = (octet * heads_at_once + static_cast<std::size_t>(head)) * 64;
        _mm512_store_si512(memory_.high_weights + at, _mm512_permutex2var_epi32(bytes[0], upper, bytes[1]));
        _mm512_store_si512(memory_.low_weights + at, _mm512_permutex2var_epi32(bytes[0], lower, bytes[1]));
      }
    }
    for (std::size_t group = 0; group < 2; ++group) {
      alignas(64) std::int32_t total[lanes];
      _mm512_store_si512(total, totals[group]);
      for (std::size_t head = 0; head < heads_at_once; ++head) {
        const std::int32_t* const of_head = total + head * 4;
        std::fill_n(eightfold_[head] + group * 4, 4, 8 * (of_head[0] + of_head[1] + of_head[2] + of_head[3]));
      }
    }
  }

  // Of two groups the eight bytes of one half, and of these the lower or the upper halves: 16 columns.
  // `dense`: rows have no other columns.
  template <int half, int upper, bool dense>
  void add_values(const std::byte* v, std::size_t rows, const float* factors, __m256 units, float* sums) {
    const __m512i lower_half = _mm512_set1_epi8(15);
    __m512i high[heads_at_once][2], low[heads_at_once][2];
    for (std::size_t head = 0; head < heads_at_once; ++head)
      for (std::size_t i = 0; i < 2; ++i)
        high[head][i] = low[head][i] = _mm512_setzero_si512();
    for (std::size_t row = 0; row < rows; row += 8) {
      const std::byte* first = v + row * row_bytes();
      const __m512i a = interleave<half>(two_rows<dense>(first), two_rows<dense>(first + 2 * row_bytes()));
      const __m512i b = interleave<half>(two_rows<dense>(first + 4 * row_bytes()),
                                         two_rows<dense>(first + 6 * row_bytes()));
      __m512i values[2] = {_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)};
      for (__m512i& value : values)
        value = _mm512_and_si512(upper != 0 ? _mm512_srli_epi16(value, 4) : value, lower_half);
      const std::size_t at = row / 8 * heads_at_once * 64;
      for (std::size_t head = 0; head < heads_at_once; ++head) {
        const __m512i upper_weight = _mm512_load_si512(memory_.high_weights + at + head * 64);
        const __m512i lower_weight = _mm512_load_si512(memory_.low_weights + at + head * 64);
        for (std::size_t i = 0; i < 2; ++i) {
          high[head][i] = dot_bytes(high[head][i], values[i], upper_weight);
          low[head][i] = dot_bytes(low[head][i], values[i], lower_weight);
        }
      }
    }
    for (std::size_t head = 0; head < heads_at_once; ++head)
      for (std::size_t i = 0; i < 2; ++i) {
        float* const sum = sums + (head * 2 + i) * half_lanes;
        const __m256 before = _mm256_mul_ps(_mm256_set1_ps(factors[head]), _mm256_loadu_ps(sum));
        const __m512i both = _mm512_add_epi32(_mm512_slli_epi32(high[head][i], 8), low[head][i]);
        const __m256i rows_together =
            _mm256_add_epi32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
        const __m256i too_much = _mm256_load_si256(reinterpret_cast<const __m256i*>(eightfold_[head]));
        const __m256 added = _mm256_cvtepi32_ps(_mm256_sub_epi32(rows_together, too_much));
        _mm256_storeu_ps(sum, _mm256_fmadd_ps(added, units, before));
      }
  }

  // The same 32 bytes of two rows.
  template <bool dense>
  HWY_INLINE __m512i two_rows(const std::byte* first) const {
    if constexpr (dense) return _mm512_loadu_si512(first);
    const __m256i even = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
    const __m256i odd = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + row_bytes()));
    return _mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1);
  }

  template <int half>
  static HWY_INLINE __m512i interleave(__m512i even, __m512i odd) {
    return half == 0 ? _mm512_unpacklo_epi8(even, odd) : _mm512_unpackhi_epi8(even, odd);
  }

  alignas(64) std::int32_t starts_[most_groups][lanes];
  alignas(64) std::int32_t eightfold_[heads_at_once][half_lanes];  // the weights of two groups
};

#endif

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
