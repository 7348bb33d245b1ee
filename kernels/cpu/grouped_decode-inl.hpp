// Decode attention of four query heads at once on native bf16 products, straight from the stored rows.
//
// Scores: a vector holds eight values of each of the four queries; a key's eight values are broadcast to all
// four by the load itself, so that one product serves four heads, and four rows later one transposing sum
// gives [head][row]. Values: the rows of a pair are interleaved in registers. Nothing is packed in memory,
// since every row is read once.
#if defined(WEFT_KERNELS_GROUPED_DECODE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_GROUPED_DECODE_INL
#undef WEFT_KERNELS_GROUPED_DECODE_INL
#else
#define WEFT_KERNELS_GROUPED_DECODE_INL
#endif

#include <hwy/highway.h>

#include "cpu/attention_layout.hpp"
#include "cpu/decode_piece.hpp"
#include "cpu/heads_softmax-inl.hpp"
#include "cpu/tile-inl.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

#if WEFT_KERNELS_NATIVE_BF16

constexpr std::size_t chunk_values = 8;  // of one head in a vector
constexpr std::size_t score_rows = 8;    // rows whose products are in flight together
constexpr std::size_t column_values = 64;

using half_tag = hn::CappedTag<std::uint16_t, 32>;
using half_vector = hn::Vec<half_tag>;

// A multiple of what one pass over the columns holds in registers.
constexpr bool has_grouped_decode(std::size_t head_dim) {
  return head_dim % column_values == 0;
}

HWY_INLINE f32_vector add_pairs_of_lanes(f32_vector a, f32_vector b) {
  // [a0+a2, b0+b2, a1+a3, b1+b3] of every 128-bit block.
  const __m512 low = _mm512_unpacklo_ps(a.raw, b.raw);
  const __m512 high = _mm512_unpackhi_ps(a.raw, b.raw);
  return f32_vector{_mm512_add_ps(low, high)};
}

// Four rows' sums, [head][part of the sum] each, to [head][row].
HWY_INLINE f32_vector add_parts(f32_vector r0, f32_vector r1, f32_vector r2, f32_vector r3) {
  const f32_vector r01 = add_pairs_of_lanes(r0, r1);
  const f32_vector r23 = add_pairs_of_lanes(r2, r3);
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(r01.raw), _mm512_castps_pd(r23.raw));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(r01.raw), _mm512_castps_pd(r23.raw));
  return f32_vector{_mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))};
}

constexpr std::size_t padded_rows(std::size_t rows) {
  return (rows + score_rows - 1) / score_rows * score_rows;
}

class grouped_decode {
 public:
  // q: [4][head_dim] f32 queries scaled to base 2; heads beyond the group are zero.
  grouped_decode(std::size_t head_dim, const float* q, std::byte* scratch)
      : head_dim_(head_dim), memory_(head_dim, scratch) {
    for (std::size_t chunk = 0; chunk < head_dim / chunk_values; ++chunk) {
      for (std::size_t head = 0; head < heads_at_once; ++head) {
        for (std::size_t i = 0; i < chunk_values; ++i) {
          memory_.queries[(chunk * heads_at_once + head) * chunk_values + i] =
              bf16_from_f32(q[head * head_dim + chunk * chunk_values + i]);
        }
      }
    }
    std::fill_n(memory_.sums, heads_at_once * head_dim, 0.0F);
  }

  // The next rows, at most `grouped_tile_rows`. k and v have a multiple of `score_rows`: those beyond are
  // zero.
  void attend(const std::byte* k, const std::byte* v, std::size_t rows) {
    const std::size_t padded = padded_rows(rows);
    score(reinterpret_cast<const std::uint16_t*>(k), padded);
    heads_softmax::hide_rows(rows, padded, memory_.scores);
    float factors[heads_at_once];
    weigh(padded / 4, factors);
    for (std::size_t column = 0; column < head_dim_; column += column_values) {
      add_values(reinterpret_cast<const std::uint16_t*>(v) + column, padded, factors,
                 memory_.sums + column * heads_at_once);
    }
  }

  void store(std::size_t heads, std::size_t first_head, const partial_result& out) const {
    const std::size_t stride = padded_head_dim(head_dim_);
    for (std::size_t head = 0; head < heads; ++head) {
      out.maxima[first_head + head] = softmax_.maximum(head);
      out.weights[first_head + head] = softmax_.weight(head);
      for (std::size_t d = 0; d < head_dim_; ++d) {
        out.sums[(first_head + head) * stride + d] = memory_.sums[sum_index(head, d)];
      }
    }
  }

 private:
  // Interleaving two rows leaves the columns of every 16 bytes in a low and a high vector.
  std::size_t sum_index(std::size_t head, std::size_t d) const {
    const std::size_t pass = d / column_values;
    const std::size_t in_vector = d % 32;
    const std::size_t vector = d % column_values / 32 * 2 + (in_vector % 8) / 4;
    const std::size_t lane = in_vector / 8 * 4 + in_vector % 4;
    return ((pass * heads_at_once + head) * 4 + vector) * lanes + lane;
  }

  void score(const std::uint16_t* k, std::size_t rows_to_score) {
    const u32_tag tag;
    for (std::size_t row = 0; row < rows_to_score; row += score_rows) {
      const std::uint16_t* rows = k + row * head_dim_;
      f32_vector sums[score_rows];
      for (f32_vector& sum : sums)
        sum = hn::Zero(f32_tag());
      for (std::size_t d = 0; d < head_dim_; d += chunk_values) {
        const u32_vector query =
            hn::Load(tag, reinterpret_cast<const std::uint32_t*>(memory_.queries + d * heads_at_once));
        for (std::size_t i = 0; i < score_rows; ++i) {
          const auto* chunk = reinterpret_cast<const __m128i*>(rows + i * head_dim_ + d);
          const u32_vector key{_mm512_broadcast_i32x4(_mm_loadu_si128(chunk))};
          sums[i] = dot_bf16_pairs(sums[i], query, key);
        }
      }
      float* out = memory_.scores + row * heads_at_once;
      hn::Store(add_parts(sums[0], sums[1], sums[2], sums[3]), f32_tag(), out);
      hn::Store(add_parts(sums[4], sums[5], sums[6], sums[7]), f32_tag(), out + lanes);
      prefetch(rows, score_rows);
    }
  }

  // The same place one tile further on: it is needed when this tile's values have been added.
  void prefetch(const std::uint16_t* rows, std::size_t count) const {
    const auto* next = reinterpret_cast<const std::byte*>(rows + grouped_tile_rows * head_dim_);
    for (std::size_t line = 0; line < count * head_dim_ * 2; line += 64)
      __builtin_prefetch(next + line, 0, 2);
  }

  void weigh(std::size_t quads, float* factors) {
    softmax_.weigh(memory_.scores, quads, factors, [this](std::size_t i, f32_vector weight) HWY_ATTR {
      __m256i narrow;
      __asm__("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(weight.raw));
      _mm256_store_si256(reinterpret_cast<__m256i*>(memory_.weights + i * lanes), narrow);
    });
  }

  // `column_values` columns of all rows. sums: [4 heads][4 vectors].
  void add_values(const std::uint16_t* v, std::size_t rows, const float* factors, float* sums) {
    const f32_tag tag;
    f32_vector acc[heads_at_once][4];
    for (std::size_t head = 0; head < heads_at_once; ++head) {
      const f32_vector factor = hn::Set(tag, factors[head]);
      for (std::size_t i = 0; i < 4; ++i) {
        acc[head][i] = hn::Mul(factor, hn::Load(tag, sums + (head * 4 + i) * lanes));
      }
    }
    for (std::size_t row = 0; row < rows; row += 2) {
      const std::uint16_t* even = v + row * head_dim_;
      u32_vector pairs[4];
      interleave(even, even + head_dim_, pairs);
      interleave(even + 32, even + head_dim_ + 32, pairs + 2);
      const std::uint16_t* weight = memory_.weights + row / 4 * lanes + row % 4;
      for (std::size_t head = 0; head < heads_at_once; ++head) {
        std::uint32_t pair;
        std::memcpy(&pair, weight + head * 4, sizeof pair);
        const u32_vector both = hn::Set(u32_tag(), pair);
        for (std::size_t i = 0; i < 4; ++i)
          acc[head][i] = dot_bf16_pairs(acc[head][i], both, pairs[i]);
      }
      prefetch_columns(even);
    }
    for (std::size_t head = 0; head < heads_at_once; ++head) {
      for (std::size_t i = 0; i < 4; ++i)
        hn::Store(acc[head][i], tag, sums + (head * 4 + i) * lanes);
    }
  }

  void prefetch_columns(const std::uint16_t* even) const {
    const auto* next = reinterpret_cast<const std::byte*>(even + grouped_tile_rows * head_dim_);
    for (std::size_t row = 0; row < 2; ++row) {
      for (std::size_t line = 0; line < column_values * 2; line += 64) {
        __builtin_prefetch(next + row * head_dim_ * 2 + line, 0, 2);
      }
    }
  }

  static HWY_INLINE void interleave(const std::uint16_t* even, const std::uint16_t* odd, u32_vector* out) {
    const __m512i a = _mm512_loadu_si512(even);
    const __m512i b = _mm512_loadu_si512(odd);
    out[0] = u32_vector{_mm512_unpacklo_epi16(a, b)};
    out[1] = u32_vector{_mm512_unpackhi_epi16(a, b)};
  }

  struct memory {
    memory(std::size_t head_dim, std::byte* scratch)
        : queries(reinterpret_cast<std::uint16_t*>(scratch)),
          sums(reinterpret_cast<float*>(queries + heads_at_once * head_dim)),
          scores(sums + heads_at_once * head_dim),
          weights(reinterpret_cast<std::uint16_t*>(scores + heads_at_once * grouped_tile_rows)) {}
    std::uint16_t* queries;  // [chunk][head][8]
    float* sums;             // [pass][head][4 vectors]
    float* scores;           // [row / 4][head][4]
    std::uint16_t* weights;  // as the scores
  };

  std::size_t head_dim_;
  memory memory_;
  heads_softmax softmax_;
};

#endif

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
