// One task of prefill attention: some query rows of one group of heads against one KV head, its scratch
// memory and what its mask lets it see.
#pragma once

#include <weft/kernels/attention_counted.hpp>
#include <weft/kernels/attention_prefill.hpp>

#include "cpu/attention_layout.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace weft::kernels {

// What a block needs to count columns: those of both ranges, each padded to whole subtiles.
struct column_block {
  const column_count* count = nullptr;
  std::size_t lines = 0;         // at once
  std::size_t score_stride = 0;  // floats
  float* scores = nullptr;       // [lines][score_stride]
  float* log_sums = nullptr;     // [lines]
  float* largest = nullptr;      // [query head of the group][score_stride], base 2
};

constexpr std::size_t padded_columns(const row_range& range) {
  return (range.rows() + tile_columns - 1) / tile_columns * tile_columns;
}

// Lines that are counted at once: their scores stay near. Of many columns no fewer lines than pay for
// packing.
constexpr std::size_t counted_lines(std::size_t columns) {
  constexpr std::size_t fewest = 20 * tile_rows;
  constexpr std::size_t most_scores = std::size_t{512} << 10;
  return std::max(fewest, most_scores / std::max<std::size_t>(columns, 1) / tile_rows * tile_rows);
}

// Rows of a block; its lines share packed tiles. Packing costs 3 % of what 480 lines of 64 channels compute
// with a tile; fewer tasks of more lines can leave threads idle, and their state must fit the second-level
// cache.
inline std::size_t rows_per_block(const attention_shape& shape, std::size_t rows, unsigned threads) {
  constexpr std::size_t most_values = 160 * tile_rows * 64;
  constexpr std::size_t tasks_per_thread = 8;
  const std::size_t group = shape.query_heads / shape.kv_heads;
  std::size_t most = std::max<std::size_t>(most_values / (group * shape.head_dim), 1);
  for (int halving = 0; halving < 2 && most > 1; ++halving)
    if (rows / most * shape.kv_heads < tasks_per_thread * threads) most /= 2;
  const std::size_t blocks = (rows + most - 1) / most;
  return (rows + blocks - 1) / blocks;
}

struct prefill_block {
  const attention_shape* shape;
  const prefill_queries* queries;
  const prefill_kv_head* keys;
  std::size_t kv_head;
  std::size_t first_row;
  std::size_t rows;
  std::size_t group;             // query heads of the KV head
  const column_block* counting;  // null: none
  float* out;                    // null: columns are counted, nothing else
  std::size_t out_stride;
  std::byte* scratch;

  std::size_t lines() const { return rows * group; }
  std::size_t row(std::size_t line) const { return first_row + line / group; }
  std::size_t offset_in_row(std::size_t line) const {
    return (kv_head * group + line % group) * shape->head_dim;
  }
  const float* query(std::size_t line) const {
    return queries->q + row(line) * queries->row_stride + offset_in_row(line);
  }
  float* result(std::size_t line) const { return out + row(line) * out_stride + offset_in_row(line); }
};

// Elements of the widest vector.
inline constexpr std::size_t most_lanes = 16;

// Where a block keeps what it works on.
struct prefill_memory {
  explicit prefill_memory(const prefill_block& block)
      : prefill_memory(*block.shape, block.lines(), block.scratch) {}

  static std::size_t size_bytes(const attention_shape& shape, std::size_t lines) {
    return reinterpret_cast<std::uintptr_t>(prefill_memory(shape, lines, nullptr).end_);
  }

  // Elements; padded, so that the lines of a register tile do not share cache sets.
  std::size_t query_stride() const { return query_stride_; }

  std::byte* queries;
  std::byte* keys;
  std::byte* values;
  std::byte* decoded;  // rows of a subtile
  float* sums;         // [lines][padded_head_dim]
  float* bases;        // [lines]: what a line's weights are relative to, hidden_score if it saw nothing
  float* totals;       // [lines][most_lanes]: sums of its weights, by lane
  float* scores;       // [tile_rows][tile_keys]
  std::byte* weights;  // [tile_rows][tile_keys] of at most 4 bytes
  std::int32_t* positions;
  std::int32_t* segments;
  std::int32_t* key_positions;
  std::int32_t* key_segments;

 private:
  prefill_memory(const attention_shape& shape, std::size_t lines, std::byte* begin)
      : query_stride_(shape.head_dim + 32), end_(begin) {
    queries = take(lines * query_stride_ * sizeof(float));
    keys = take(subtiles_per_tile * key_subtile_bytes(shape.head_dim));
    values = take(subtiles_per_tile * value_subtile_bytes(shape.head_dim));
    decoded = take(tile_columns * shape.head_dim * sizeof(float));
    sums = reinterpret_cast<float*>(take(lines * padded_head_dim(shape.head_dim) * sizeof(float)));
    bases = reinterpret_cast<float*>(take(lines * sizeof(float)));
    totals = reinterpret_cast<float*>(take(lines * most_lanes * sizeof(float)));
    scores = reinterpret_cast<float*>(take(tile_rows * tile_keys * sizeof(float)));
    weights = take(tile_rows * tile_keys * sizeof(float));
    positions = reinterpret_cast<std::int32_t*>(take(lines * sizeof(std::int32_t)));
    segments = reinterpret_cast<std::int32_t*>(take(lines * sizeof(std::int32_t)));
    key_positions = reinterpret_cast<std::int32_t*>(take(tile_keys * sizeof(std::int32_t)));
    key_segments = reinterpret_cast<std::int32_t*>(take(tile_keys * sizeof(std::int32_t)));
  }

  std::byte* take(std::size_t size_bytes) {
    std::byte* const part = end_;
    end_ += round_to_lines(size_bytes);
    return part;
  }

  std::size_t query_stride_;
  std::byte* end_;
};

// Extremes of the coordinates of some rows (or lines).
struct row_bounds {
  std::int32_t first_position, last_position;
  std::int32_t first_segment, last_segment;
};

inline row_bounds bounds_of(const std::int32_t* positions, const std::int32_t* segments, std::size_t count) {
  row_bounds b{positions[0], positions[0], segments[0], segments[0]};
  for (std::size_t i = 1; i < count; ++i) {
    b.first_position = std::min(b.first_position, positions[i]);
    b.last_position = std::max(b.last_position, positions[i]);
    b.first_segment = std::min(b.first_segment, segments[i]);
    b.last_segment = std::max(b.last_segment, segments[i]);
  }
  return b;
}

enum class visibility : std::uint8_t { none, some, all };

// What queries within `q` see of keys within `k`. `some` is always a safe answer.
inline visibility visible(const row_bounds& q, const row_bounds& k) {
  if (k.first_position > q.last_position) return visibility::none;
  const bool may_see_everything = q.first_segment <= 0 && q.last_segment >= 0;
  const bool segments_meet = k.first_segment <= q.last_segment && k.last_segment >= q.first_segment;
  if (!may_see_everything && !segments_meet) return visibility::none;

  const bool before = k.last_position <= q.first_position;
  const bool sees_everything = q.first_segment == 0 && q.last_segment == 0;
  const bool one_segment = q.first_segment == q.last_segment && k.first_segment == k.last_segment &&
                           q.first_segment == k.first_segment;
  return before && (sees_everything || one_segment) ? visibility::all : visibility::some;
}

}  // namespace weft::kernels
