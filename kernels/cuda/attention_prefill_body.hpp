// What warps do for attention of many query rows and for its sums: a running softmax over tiles of rows.
#pragma once

#include <weft/kernels/cuda/attention_plan.hpp>

#include "cuda/tensor_tile.hpp"

namespace weft::kernels::cuda {

// The lines of one KV head: its query heads' queries, row by row.
template <class Queries>
struct head_lines {
  const Queries& queries;
  std::uint32_t first_head;
  std::uint32_t group;
  std::uint32_t head_dim;
  std::uint32_t line_count;

  WEFT_BOTH_SIDES std::int32_t position(std::uint32_t line) const { return queries.positions[line / group]; }
  WEFT_BOTH_SIDES std::int32_t segment(std::uint32_t line) const { return queries.segments[line / group]; }
  WEFT_BOTH_SIDES const float* query(std::uint32_t line) const {
    return queries.q + line / group * queries.row_stride + std::size_t{first_head + line % group} * head_dim;
  }
};

// One line's result: maximum (of scores in base 2), weight, and sums of values where they are wanted. It is
// worth sums * 2^maximum.
WEFT_BOTH_SIDES constexpr std::size_t line_floats(std::uint32_t value_channels) {
  return std::size_t{value_channels} + 2;
}

template <class Elements, std::uint32_t Channels, bool Values, class Warp>
class line_softmax {
  template <class T>
  using each_lanes = typename Warp::template each_lanes<T>;
  using tile_type = row_tile<Channels, Values>;
  static constexpr std::uint32_t columns = tile_type::rows / 8;

 public:
  // `factor`: the scores' scale, in base 2.
  template <class Lines>
  WEFT_BOTH_SIDES line_softmax(const Warp& warp, const Lines& lines, std::uint32_t first_line, float factor,
                               std::uint32_t head_dim)
      : warp_(warp), head_dim_(head_dim), factor_(factor), first_line_(first_line), lines_(lines.line_count) {
    queries_.load(warp, lines, first_line, head_dim);
    warp.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t half = 0; half < 2; ++half) {
        maximum_[half][lane] = unseen_score;
        weight_[half][lane] = 0.0F;
      }
      if constexpr (Values) {
        WEFT_UNROLL
        for (std::uint32_t n = 0; n < Channels / 8; ++n)
          WEFT_UNROLL
        for (std::uint32_t e = 0; e < 4; ++e)
          sums_[n][e][lane] = 0.0F;
      }
    });
  }

  // The first `count` rows of a tile.
  WEFT_BOTH_SIDES void attend(const tile_type& tile, std::uint32_t count) {
    each_lanes<float> scores[columns][4];
    WEFT_UNROLL
    for (std::uint32_t n = 0; n < columns; n += 2) {
      each_lanes<float> products[2][4];
      queries_.multiply(warp_, tile, 8 * n, products);
      warp_.each([&](std::uint32_t lane) {
        WEFT_UNROLL
        for (std::uint32_t i = 0; i < 8; ++i) {
          const std::uint32_t row = 8 * (n + i / 4) + 2 * (lane % 4) + i % 2;
          const bool seen =
              row < count && queries_.sees_row(lane, i % 4 / 2, tile.positions[row], tile.segments[row]);
          scores[n + i / 4][i % 4][lane] = seen ? products[i / 4][i % 4][lane] * factor_ : unseen_score;
        }
      });
    }
    rescale(scores);
    weigh(scores);
    if constexpr (Values) add_values(tile, scores);
  }

  // `partial`: [tile_lines][line_floats], of the thread block's lines from `first_of_block` on.
  WEFT_BOTH_SIDES void store(std::uint32_t first_of_block, float* partial) const {
    constexpr std::uint32_t spread = Values ? 1 : 0;
    const std::size_t stride = line_floats(head_dim_ * spread);
    each_lanes<float> weights[2];
    WEFT_UNROLL
    for (std::uint32_t half = 0; half < 2; ++half)
      weights[half] = warp_.sum_of_quad(weight_[half]);
    warp_.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t half = 0; half < 2; ++half) {
        const std::uint32_t line = first_line_ + lane / 4 + 8 * half;
        if (line >= lines_) continue;
        float* const out = partial + (line - first_of_block) * stride;
        if (lane % 4 == 0) {
          out[0] = maximum_[half][lane];
          out[1] = weights[half][lane];
        }
        if constexpr (Values) {
          WEFT_UNROLL
          for (std::uint32_t n = 0; n < Channels / 8; ++n)
            WEFT_UNROLL
          for (std::uint32_t i = 0; i < 2; ++i) {
            const std::uint32_t channel = 8 * n + 2 * (lane % 4) + i;
            if (channel < head_dim_) out[2 + channel] = sums_[n][2 * half + i][lane];
          }
        }
      }
    });
  }

 private:
  // Brings what there is to the maximum with these scores.
  WEFT_BOTH_SIDES void rescale(const each_lanes<float> (&scores)[columns][4]) {
    WEFT_UNROLL
    for (std::uint32_t half = 0; half < 2; ++half) {
      each_lanes<float> largest;
      warp_.each([&](std::uint32_t lane) {
        largest[lane] = maximum_[half][lane];
        WEFT_UNROLL
        for (std::uint32_t n = 0; n < columns; ++n)
          WEFT_UNROLL
        for (std::uint32_t i = 0; i < 2; ++i) {
          const float score = scores[n][2 * half + i][lane];
          largest[lane] = score > largest[lane] ? score : largest[lane];
        }
      });
      largest = warp_.max_of_quad(largest);
      warp_.each([&](std::uint32_t lane) {
        const float kept = power_of_two(maximum_[half][lane] - largest[lane]);
        maximum_[half][lane] = largest[lane];
        weight_[half][lane] *= kept;
        if constexpr (Values) {
          WEFT_UNROLL
          for (std::uint32_t n = 0; n < Channels / 8; ++n)
            WEFT_UNROLL
          for (std::uint32_t i = 0; i < 2; ++i)
            sums_[n][2 * half + i][lane] *= kept;
        }
      });
    }
  }

  // Scores become weights.
  WEFT_BOTH_SIDES void weigh(each_lanes<float> (&scores)[columns][4]) {
    warp_.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t n = 0; n < columns; ++n)
        WEFT_UNROLL
      for (std::uint32_t e = 0; e < 4; ++e) {
        float& score = scores[n][e][lane];
        score = score > nothing_seen ? power_of_two(score - maximum_[e / 2][lane]) : 0.0F;
        weight_[e / 2][lane] += score;
      }
    });
  }

  // A fragment of C is one of A but for its pairs, so weights need not change lanes.
  WEFT_BOTH_SIDES void add_values(const tile_type& tile, const each_lanes<float> (&weights)[columns][4]) {
    WEFT_UNROLL
    for (std::uint32_t n = 0; n < columns; n += 2) {
      each_lanes<std::uint32_t> a[4];
      warp_.each([&](std::uint32_t lane) {
        WEFT_UNROLL
        for (std::uint32_t i = 0; i < 4; ++i) {
          const std::uint32_t first = i % 2 * 2;
          a[i][lane] = std::uint32_t{Elements::narrow(weights[n + i / 2][first][lane])} |
                       std::uint32_t{Elements::narrow(weights[n + i / 2][first + 1][lane])} << 16;
        }
      });
      WEFT_UNROLL
      for (std::uint32_t part = 0; part < Channels / 16; ++part) {
        each_lanes<std::uint32_t> values[4];
        // Rows of values are rows of B: turned while they are read.
        warp_.template load_matrices<true>(
            [&](std::uint32_t lane) {
              const std::uint32_t matrix = lane / 8;
              return tile.v + (8 * n + matrix % 2 * 8 + lane % 8) * tile_type::pitch + 16 * part +
                     matrix / 2 * 8;
            },
            values);
        warp_.template multiply_add<Elements>(a, values[0], values[1], sums_[2 * part]);
        warp_.template multiply_add<Elements>(a, values[2], values[3], sums_[2 * part + 1]);
      }
    }
  }

  const Warp& warp_;
  const std::uint32_t head_dim_;
  const float factor_;
  const std::uint32_t first_line_;
  const std::uint32_t lines_;
  query_tile<Elements, Channels, Warp> queries_;
  each_lanes<float> maximum_[2];
  each_lanes<float> weight_[2];
  each_lanes<float> sums_[Values ? Channels / 8 : 1][4];
};

// One thread: ln of what a line's exponentials sum to, over the tasks' results and, unless it is -infinity,
// what was there `before`.
WEFT_BOTH_SIDES inline float merged_log_sum(const float* first, std::size_t stride, std::uint32_t tasks,
                                            float before) {
  float maximum = before > nothing_seen ? before * log2_e : unseen_score;
  for (std::uint32_t i = 0; i < tasks; ++i)
    maximum = first[i * stride] > maximum ? first[i * stride] : maximum;
  if (!(maximum > nothing_seen)) return -__builtin_huge_valf();
  float sum = before > nothing_seen ? power_of_two(before * log2_e - maximum) : 0.0F;
  for (std::uint32_t i = 0; i < tasks; ++i)
    sum += first[i * stride + 1] * power_of_two(first[i * stride] - maximum);
  return (maximum + logarithm_2(sum)) * ln_2;
}

}  // namespace weft::kernels::cuda
