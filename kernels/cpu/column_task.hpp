// One task of attention over columns: lines of one KV head's group of query heads against some of its rows,
// and the memory it works in.
#pragma once

#include <weft/kernels/attention_columns.hpp>

#include "cpu/attention_layout.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace weft::kernels {

// The lines of all KV heads, ready for products: queries scaled to base 2, whole register tiles.
struct column_lines {
  std::size_t group = 0;              // query heads of a KV head
  std::size_t count = 0;              // lines of a KV head: rows * group
  std::size_t padded = 0;             // in whole register tiles; lines beyond `count` see nothing
  std::size_t q_stride = 0;           // operands
  std::byte* queries = nullptr;       // [kv_head][padded][q_stride] of at most 4 bytes
  std::int32_t* positions = nullptr;  // [padded]
  std::int32_t* segments = nullptr;   // [padded]
  float* log_sums = nullptr;          // [kv_head][padded], base 2

  std::size_t query_bytes() const { return padded * q_stride * sizeof(float); }  // of a KV head
};

// What a worker needs for one tile of keys.
struct column_memory {
  explicit column_memory(std::size_t head_dim, std::size_t group, std::byte* begin) : end_(begin) {
    keys = take(subtiles_per_tile * key_subtile_bytes(head_dim));
    scores = reinterpret_cast<float*>(take(tile_rows * tile_keys * sizeof(float)));
    weights = take(tile_rows * tile_keys * sizeof(float));
    positions = reinterpret_cast<std::int32_t*>(take(tile_keys * sizeof(std::int32_t)));
    segments = reinterpret_cast<std::int32_t*>(take(tile_keys * sizeof(std::int32_t)));
    columns = reinterpret_cast<float*>(take(group * tile_keys * sizeof(float)));
  }

  static std::size_t size_bytes(std::size_t head_dim, std::size_t group) {
    return reinterpret_cast<std::uintptr_t>(column_memory(head_dim, group, nullptr).end_);
  }

  std::byte* keys;
  float* scores;       // [tile_rows][tile_keys]
  std::byte* weights;  // [tile_rows][tile_keys] of at most 4 bytes
  std::int32_t* positions;
  std::int32_t* segments;
  float* columns;  // [group][tile_keys]

 private:
  std::byte* take(std::size_t size_bytes) {
    std::byte* const part = end_;
    end_ += round_to_lines(size_bytes);
    return part;
  }

  std::byte* end_;
};

struct column_task {
  const attention_shape* shape = nullptr;
  const prefill_kv_head* keys = nullptr;
  const column_lines* lines = nullptr;
  std::size_t kv_head = 0;
  std::size_t first = 0;  // pass A: first line; pass B: first row of the keys
  std::size_t end = 0;    // pass A: end of the lines
  column_statistic statistic = column_statistic::largest_log;
  bool merge = false;
  float* out = nullptr;  // pass A: [line] in base 2; pass B: [group][out_stride]
  std::size_t out_stride = 0;
  std::byte* scratch = nullptr;
};

}  // namespace weft::kernels
