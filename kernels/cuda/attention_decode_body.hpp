// What one warp does for attention_decode, and how the pieces of a head are put together.
//
// The body is written once over a warp: values with one element per lane, and the few things that lanes do
// together. On the device (warp.cuh) such a value is a scalar; on the host (reference/host_warp.hpp) it is
// all 32 of them, so that tests run what the device runs.
//
// A row is read by head_dim/8 neighbouring lanes, 8 elements each; a warp reads 256/head_dim rows at once,
// and each of these row teams keeps its own running softmax until the end.
#pragma once

#include "cuda/lanes.hpp"
#include "cuda/stored_rows.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

inline constexpr std::uint32_t largest_head_dim = warp_lanes * lane_elements;
// Of a row that is not there: small, and finite so that differences stay numbers.
inline constexpr float hidden_score = -1e30F;

// The lanes that read one row: a power of two, some of them idle where head_dim is none.
WEFT_BOTH_SIDES constexpr std::uint32_t row_team(std::uint32_t head_dim) {
  std::uint32_t lanes = 1;
  while (lanes * lane_elements < head_dim)
    lanes *= 2;
  return lanes;
}

// The result of a piece, [group] times: maximum (of scores in base 2), weight, sums [head_dim]. It is worth
// sums * 2^maximum.
WEFT_BOTH_SIDES constexpr std::size_t partial_floats(std::uint32_t head_dim) {
  return std::size_t{head_dim} + 2;
}

template <int Group, class Warp>
class warp_attention {
  using f32 = typename Warp::f32;
  using mask = typename Warp::mask;

 public:
  // `factor`: the scores' scale, in base 2.
  WEFT_BOTH_SIDES warp_attention(const Warp& warp, const float* q, float factor, std::uint32_t head_dim)
      : warp_(warp),
        head_dim_(head_dim),
        team_(row_team(head_dim)),
        has_elements_(warp.team_lane_below(team_, head_dim / lane_elements)) {
    for (int line = 0; line < Group; ++line) {
      warp.load_f32(q + std::size_t{head_dim} * line, team_, has_elements_, q_[line]);
      for (int i = 0; i < lane_elements; ++i) {
        q_[line][i] = q_[line][i] * warp.all(factor);
        sums_[line][i] = warp.all(0.0F);
      }
      maxima_[line] = warp.all(hidden_score);
      weights_[line] = warp.all(0.0F);
    }
  }

  WEFT_BOTH_SIDES std::uint32_t rows_at_once() const { return warp_lanes / team_; }

  // `count` rows of a run from `first_row` on, in passes of rows_at_once().
  template <class Rows, class Run>
  WEFT_BOTH_SIDES void attend(const Run& run, std::uint32_t first_row, std::uint32_t count) {
    const std::size_t row_bytes = Rows::row_bytes(head_dim_);
    const std::size_t scales = Rows::scales(head_dim_);
#if defined(__CUDA_ARCH__)
#pragma unroll(Rows::passes_together)
#endif
    for (std::uint32_t row = 0; row < count; row += rows_at_once()) {
      const std::size_t at = std::size_t{first_row} + row;
      const mask present = warp_.team_below(team_, count - row);
      const mask on = warp_.both(present, has_elements_);
      f32 key[lane_elements];
      f32 value[lane_elements];
      warp_.template load<Rows>(run.k + at * row_bytes, run.k_scales + at * scales, team_, head_dim_, on,
                                key);
      warp_.template load<Rows>(run.v + at * row_bytes, run.v_scales + at * scales, team_, head_dim_, on,
                                value);
      for (int line = 0; line < Group; ++line)
        add_row(line, key, value, present);
    }
  }

  // Puts the row teams together and writes the piece's result: [group][maximum, weight, sums].
  WEFT_BOTH_SIDES void store(float* partial) {
    for (int line = 0; line < Group; ++line) {
      const f32 maximum = warp_.max_over_teams(team_, maxima_[line]);
      const f32 factor = warp_.exp2(maxima_[line] - maximum);
      const f32 weight = warp_.sum_over_teams(team_, weights_[line] * factor);
      float* const out = partial + partial_floats(head_dim_) * line;
      warp_.store_first(maximum, out);
      warp_.store_first(weight, out + 1);
      for (int i = 0; i < lane_elements; ++i)
        sums_[line][i] = warp_.sum_over_teams(team_, sums_[line][i] * factor);
      warp_.store_team(sums_[line], team_, has_elements_, out + 2);
    }
  }

 private:
  WEFT_BOTH_SIDES void add_row(int line, const f32* key, const f32* value, const mask& present) {
    f32 score = q_[line][0] * key[0];
    for (int i = 1; i < lane_elements; ++i)
      score = score + q_[line][i] * key[i];
    score = warp_.select(present, warp_.sum_over_team(team_, score), warp_.all(hidden_score));
    const f32 maximum = warp_.max(maxima_[line], score);
    const f32 kept = warp_.exp2(maxima_[line] - maximum);
    const f32 weight = warp_.select(present, warp_.exp2(score - maximum), warp_.all(0.0F));
    maxima_[line] = maximum;
    weights_[line] = weights_[line] * kept + weight;
    for (int i = 0; i < lane_elements; ++i)
      sums_[line][i] = sums_[line][i] * kept + value[i] * weight;
  }

  const Warp& warp_;
  const std::uint32_t head_dim_;
  const std::uint32_t team_;
  const mask has_elements_;
  f32 q_[Group][lane_elements];
  f32 maxima_[Group];
  f32 weights_[Group];
  f32 sums_[Group][lane_elements];
};

// One warp: the rows [first_row, first_row + rows) of a head, wherever its runs have them. Runs that are raw
// are of `Elements`.
template <class Elements, int Group, class Warp, class Head>
WEFT_BOTH_SIDES void attend_piece(const Warp& warp, const Head& head, std::uint32_t first_row,
                                  std::uint32_t rows, float factor, std::uint32_t head_dim, float* partial) {
  warp_attention<Group, Warp> attention(warp, head.q, factor, head_dim);
  for (std::uint32_t i = 0; i < head.run_count && rows > 0; ++i) {
    const auto& run = head.runs[i];
    if (first_row >= run.rows) {
      first_row -= run.rows;
      continue;
    }
    const std::uint32_t here = run.rows - first_row < rows ? run.rows - first_row : rows;
    if (run.coding == row_codec::int8)
      attention.template attend<int8_rows>(run, first_row, here);
    else if (run.coding == row_codec::int4)
      attention.template attend<int4_rows>(run, first_row, here);
    else
      attention.template attend<raw_rows<Elements>>(run, first_row, here);
    rows -= here;
    first_row = 0;
  }
  attention.store(partial);
}

// One thread: element `d` of one query head's output, from the results of its pieces, `stride` floats apart.
WEFT_BOTH_SIDES inline float merged_element(const float* first, std::size_t stride, std::uint32_t pieces,
                                            std::uint32_t d) {
  float maximum = hidden_score;
  for (std::uint32_t i = 0; i < pieces; ++i)
    maximum = first[i * stride] > maximum ? first[i * stride] : maximum;
  float weight = 0;
  float sum = 0;
  for (std::uint32_t i = 0; i < pieces; ++i) {
    const float* const piece = first + i * stride;
    const float factor = power_of_two(piece[0] - maximum);
    weight += piece[1] * factor;
    sum += piece[2 + d] * factor;
  }
  return weight > 0 ? sum / weight : 0.0F;
}

}  // namespace weft::kernels::cuda
