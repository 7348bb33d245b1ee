// Products of 16 lines of queries with tiles of rows, on tensor cores, as a warp makes them.
//
// A warp holds matrices in fragments, as `mma.m16n8k16` of the PTX ISA wants them. With g = lane / 4 and
// t = lane % 4, a lane has of A (16 x 16) two neighbouring columns each of
//   [0] row g, columns 2t and 2t+1;  [1] row g+8, the same;  [2] row g, columns 2t+8, 2t+9;  [3] row g+8,
//   those;
// of B (16 x 8) two neighbouring rows each of column g: [0] rows 2t, 2t+1;  [1] rows 2t+8, 2t+9;
// of C (16 x 8) [0], [1] row g, columns 2t and 2t+1;  [2], [3] row g+8, the same.
#pragma once

#include "cuda/lanes.hpp"
#include "cuda/stored_rows.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

inline constexpr std::uint32_t warp_lines = 16;
inline constexpr std::uint32_t tile_warps = 4;
inline constexpr std::uint32_t tile_threads = tile_warps * warp_lanes;
inline constexpr float unseen_score = -1e30F;
// No score that a query gives is as low.
inline constexpr float nothing_seen = -1e29F;

WEFT_BOTH_SIDES inline bool sees(std::int32_t position, std::int32_t segment, std::int32_t row_position,
                                 std::int32_t row_segment) {
  return row_position <= position && (row_segment == segment || segment == 0);
}

// Rows of keys (and values) in a thread block's own memory. Rows are a little longer than a head, so that
// eight of them lie in different banks.
template <std::uint32_t Channels, bool Values>
struct row_tile {
  static constexpr std::uint32_t rows = Channels <= 128 ? 64 : 32;
  static constexpr std::uint32_t pitch = Channels + 8;

  alignas(16) std::uint16_t k[rows * pitch];
  alignas(16) std::uint16_t v[Values ? rows * pitch : 8];
  std::int32_t positions[rows];
  std::int32_t segments[rows];
};

// What a warp's or a thread block's lines look for together.
struct line_bounds {
  std::int32_t last_position;
  std::int32_t first_segment;
  std::int32_t last_segment;
  bool all_segments;  // a line of segment 0 is among them

  WEFT_BOTH_SIDES bool may_see(std::int32_t position, std::int32_t segment) const {
    return position <= last_position &&
           (all_segments || (segment >= first_segment && segment <= last_segment));
  }
};

// Of the query rows [first, end), at least one.
template <class Queries>
WEFT_BOTH_SIDES line_bounds bounds_of(const Queries& queries, std::uint32_t first, std::uint32_t end) {
  line_bounds bounds{queries.positions[first], queries.segments[first], queries.segments[first],
                     queries.segments[first] == 0};
  for (std::uint32_t row = first + 1; row < end; ++row) {
    const std::int32_t position = queries.positions[row];
    const std::int32_t segment = queries.segments[row];
    if (position > bounds.last_position) bounds.last_position = position;
    if (segment < bounds.first_segment) bounds.first_segment = segment;
    if (segment > bounds.last_segment) bounds.last_segment = segment;
    bounds.all_segments = bounds.all_segments || segment == 0;
  }
  return bounds;
}

template <class Elements, class Rows>
WEFT_BOTH_SIDES void stage_part(const std::byte* codes, const std::uint16_t* scales, std::size_t row,
                                std::uint32_t first, std::uint32_t head_dim, std::uint16_t* to) {
  float values[lane_elements];
  Rows::widen(codes + row * Rows::row_bytes(head_dim), scales + row * Rows::scales(head_dim), first, head_dim,
              values);
  element_pack<Elements, lane_elements> packed;
  for (int i = 0; i < lane_elements; ++i)
    packed.at[i] = Elements::narrow(values[i]);
  *reinterpret_cast<element_pack<Elements, lane_elements>*>(to) = packed;
}

// Eight channels of a row in any coding, as elements; zeros where there are none.
template <class Elements, class Run>
WEFT_BOTH_SIDES void stage_stored(const Run& run, const std::byte* codes, const std::uint16_t* scales,
                                  std::size_t row, bool present, std::uint32_t first, std::uint32_t head_dim,
                                  std::uint16_t* to) {
  using pack = element_pack<Elements, lane_elements>;
  if (!present)
    *reinterpret_cast<pack*>(to) = pack{};
  else if (run.coding == row_codec::int8)
    stage_part<Elements, int8_rows>(codes, scales, row, first, head_dim, to);
  else if (run.coding == row_codec::int4)
    stage_part<Elements, int4_rows>(codes, scales, row, first, head_dim, to);
  else
    *reinterpret_cast<pack*>(to) =
        *reinterpret_cast<const pack*>(codes + (row * head_dim + first) * sizeof(std::uint16_t));
}

// One of `tile_threads` threads: its part of a tile of `count` rows from `first_row` on.
template <class Elements, std::uint32_t Channels, bool Values, class Run>
WEFT_BOTH_SIDES void stage_rows(std::uint32_t thread, const Run& run, std::uint32_t first_row,
                                std::uint32_t count, std::uint32_t head_dim,
                                row_tile<Channels, Values>& tile) {
  using tile_type = row_tile<Channels, Values>;
  constexpr std::uint32_t parts = Channels / lane_elements;
  for (std::uint32_t i = thread; i < tile_type::rows * parts; i += tile_threads) {
    const std::uint32_t row = i / parts;
    const std::uint32_t first = i % parts * lane_elements;
    const bool present = row < count && first < head_dim;
    const std::size_t from = std::size_t{first_row} + row;
    const std::uint32_t to = row * tile_type::pitch + first;
    stage_stored<Elements>(run, run.k, run.k_scales, from, present, first, head_dim, tile.k + to);
    if constexpr (Values)
      stage_stored<Elements>(run, run.v, run.v_scales, from, present, first, head_dim, tile.v + to);
  }
  for (std::uint32_t row = thread; row < count; row += tile_threads) {
    tile.positions[row] = run.positions[first_row + row];
    tile.segments[row] = run.segments[first_row + row];
  }
}

// 16 lines of queries as a warp holds them. `Lines` has row(line), line_count and query(line).
template <class Elements, std::uint32_t Channels, class Warp>
class query_tile {
 public:
  template <class T>
  using each_lanes = typename Warp::template each_lanes<T>;
  static constexpr std::uint32_t steps = Channels / 16;

  template <class Lines>
  WEFT_BOTH_SIDES void load(const Warp& warp, const Lines& lines, std::uint32_t first_line,
                            std::uint32_t head_dim) {
    warp.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t half = 0; half < 2; ++half) {
        const std::uint32_t line = first_line + lane / 4 + 8 * half;
        const bool present = line < lines.line_count;
        present_[half][lane] = present;
        position_[half][lane] = present ? lines.position(line) : 0;
        segment_[half][lane] = present ? lines.segment(line) : 0;
        const float* const q = present ? lines.query(line) : nullptr;
        WEFT_UNROLL
        for (std::uint32_t step = 0; step < steps; ++step)
          WEFT_UNROLL
        for (std::uint32_t part = 0; part < 2; ++part) {
          const std::uint32_t channel = 16 * step + 8 * part + 2 * (lane % 4);
          q_[step][2 * part + half][lane] = present && channel < head_dim ? pair(q + channel) : 0;
        }
      }
    });
  }

  WEFT_BOTH_SIDES bool sees_row(std::uint32_t lane, std::uint32_t half, std::int32_t position,
                                std::int32_t segment) const {
    return present_[half][lane] && sees(position_[half][lane], segment_[half][lane], position, segment);
  }

  // Products with 16 rows of a tile, from `row` on: [which 8 of them][element of C].
  template <bool Values>
  WEFT_BOTH_SIDES void multiply(const Warp& warp, const row_tile<Channels, Values>& tile, std::uint32_t row,
                                each_lanes<float> (&products)[2][4]) const {
    constexpr std::uint32_t pitch = row_tile<Channels, Values>::pitch;
    warp.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t i = 0; i < 2; ++i)
        WEFT_UNROLL
      for (std::uint32_t e = 0; e < 4; ++e)
        products[i][e][lane] = 0.0F;
    });
    WEFT_UNROLL
    for (std::uint32_t step = 0; step < steps; ++step) {
      each_lanes<std::uint32_t> keys[4];
      // Rows of keys are columns of B: as they lie. Of the four 8 x 8 matrices two are of the first 8 rows.
      warp.template load_matrices<false>(
          [&](std::uint32_t lane) {
            const std::uint32_t matrix = lane / 8;
            return tile.k + (row + matrix / 2 * 8 + lane % 8) * pitch + 16 * step + matrix % 2 * 8;
          },
          keys);
      warp.template multiply_add<Elements>(q_[step], keys[0], keys[1], products[0]);
      warp.template multiply_add<Elements>(q_[step], keys[2], keys[3], products[1]);
    }
  }

 private:
  WEFT_BOTH_SIDES static std::uint32_t pair(const float* x) {
    return std::uint32_t{Elements::narrow(x[0])} | std::uint32_t{Elements::narrow(x[1])} << 16;
  }

  each_lanes<std::uint32_t> q_[steps][4];
  each_lanes<bool> present_[2];
  each_lanes<std::int32_t> position_[2];
  each_lanes<std::int32_t> segment_[2];
};

}  // namespace weft::kernels::cuda
