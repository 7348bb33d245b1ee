// What warps do for attention by columns: each row of a tile gets the maximum, or the sum, over all lines of
// one query head.
#pragma once

#include "cuda/tensor_tile.hpp"

namespace weft::kernels::cuda {

// The lines of one query head: a query row each.
template <class Queries>
struct row_lines {
  const Queries& queries;
  std::uint32_t head;
  std::uint32_t head_dim;
  std::uint32_t line_count;
  const float* log_weights;  // by query row, added to its sum; null: nothing is

  WEFT_BOTH_SIDES float log_weight(std::uint32_t line) const {
    return log_weights == nullptr ? 0.0F : log_weights[line];
  }
  WEFT_BOTH_SIDES std::int32_t position(std::uint32_t line) const { return queries.positions[line]; }
  WEFT_BOTH_SIDES std::int32_t segment(std::uint32_t line) const { return queries.segments[line]; }
  WEFT_BOTH_SIDES const float* query(std::uint32_t line) const {
    return queries.q + line * queries.row_stride + std::size_t{head} * head_dim;
  }
};

// What the warps of a thread block found for each row of a tile, to be put together.
template <std::uint32_t Channels>
struct column_memory {
  row_tile<Channels, false> tile;
  float columns[tile_warps][row_tile<Channels, false>::rows];
};

// One warp: every tile_warps-th 16 lines, over one tile. Sums of exponentials, or largest exponents, both of
// base 2.
template <class Elements, std::uint32_t Channels, bool Sums, class Warp>
class tile_columns {
  template <class T>
  using each_lanes = typename Warp::template each_lanes<T>;
  using tile_type = row_tile<Channels, false>;
  static constexpr std::uint32_t columns = tile_type::rows / 8;

 public:
  WEFT_BOTH_SIDES tile_columns(const Warp& warp, float factor, std::uint32_t head_dim)
      : warp_(warp), factor_(factor), head_dim_(head_dim) {
    warp.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t n = 0; n < columns; ++n)
        WEFT_UNROLL
      for (std::uint32_t i = 0; i < 2; ++i)
        found_[n][i][lane] = Sums ? 0.0F : unseen_score;
    });
  }

  // 16 lines from `first_line` on. log_sums[line * heads]: natural; a line that sees nothing has -infinity.
  template <class Lines>
  WEFT_BOTH_SIDES void add(const Lines& lines, std::uint32_t first_line, const float* log_sums,
                           std::uint32_t heads, const tile_type& tile, std::uint32_t count) {
    if (!any_seen(lines, first_line, tile, count)) return;
    queries_.load(warp_, lines, first_line, head_dim_);
    each_lanes<float> base[2];
    warp_.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t half = 0; half < 2; ++half) {
        const std::uint32_t line = first_line + lane / 4 + 8 * half;
        base[half][lane] = 0.0F;
        if (line < lines.line_count)
          base[half][lane] = (log_sums[std::size_t{line} * heads] + lines.log_weight(line)) * log2_e;
      }
    });
    WEFT_UNROLL
    for (std::uint32_t n = 0; n < columns; n += 2) {
      each_lanes<float> products[2][4];
      queries_.multiply(warp_, tile, 8 * n, products);
      warp_.each([&](std::uint32_t lane) {
        WEFT_UNROLL
        for (std::uint32_t i = 0; i < 8; ++i) {
          const std::uint32_t half = i % 4 / 2;
          const std::uint32_t row = 8 * (n + i / 4) + 2 * (lane % 4) + i % 2;
          if (row >= count || !queries_.sees_row(lane, half, tile.positions[row], tile.segments[row]))
            continue;
          const float exponent = products[i / 4][i % 4][lane] * factor_ - base[half][lane];
          float& found = found_[n + i / 4][i % 2][lane];
          if constexpr (Sums)
            found += power_of_two(exponent);
          else
            found = exponent > found ? exponent : found;
        }
      });
    }
  }

  // own[row], of the tile.
  WEFT_BOTH_SIDES void store(float* own) const {
    WEFT_UNROLL
    for (std::uint32_t n = 0; n < columns; ++n)
      WEFT_UNROLL
    for (std::uint32_t i = 0; i < 2; ++i) {
      const each_lanes<float> all =
          Sums ? warp_.sum_over_quads(found_[n][i]) : warp_.max_over_quads(found_[n][i]);
      warp_.each([&](std::uint32_t lane) {
        if (lane < 4) own[8 * n + 2 * lane + i] = all[lane];
      });
    }
  }

 private:
  template <class Lines>
  WEFT_BOTH_SIDES bool any_seen(const Lines& lines, std::uint32_t first_line, const tile_type& tile,
                                std::uint32_t count) const {
    const std::uint32_t left = lines.line_count - first_line;
    const line_bounds bounds =
        bounds_of(lines.queries, first_line, first_line + (left < warp_lines ? left : warp_lines));
    return warp_.ballot([&](std::uint32_t lane) {
      bool seen = false;
      for (std::uint32_t row = lane; row < count; row += warp_lanes)
        seen = seen || bounds.may_see(tile.positions[row], tile.segments[row]);
      return seen;
    }) != 0;
  }

  const Warp& warp_;
  const float factor_;
  const std::uint32_t head_dim_;
  query_tile<Elements, Channels, Warp> queries_;
  each_lanes<float> found_[columns][2];
};

// One thread: what the warps found for a row, put to what is there or in its place.
template <bool Sums, std::uint32_t Channels>
WEFT_BOTH_SIDES void put_column(const column_memory<Channels>& memory, std::uint32_t row, bool replaces,
                                float* out) {
  float found = memory.columns[0][row];
  for (std::uint32_t warp = 1; warp < tile_warps; ++warp) {
    const float other = memory.columns[warp][row];
    if constexpr (Sums)
      found += other;
    else
      found = other > found ? other : found;
  }
  if constexpr (Sums) {
    *out = replaces ? found : *out + found;
  } else {
    const float before = replaces ? -__builtin_huge_valf() : *out;
    *out = found > nothing_seen && found * ln_2 > before ? found * ln_2 : before;
  }
}

}  // namespace weft::kernels::cuda
