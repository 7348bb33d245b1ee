// The new keys and values of a chunk's rows, on their way into the caches.
#pragma once

#include <weft/kernels/rope.hpp>
#include <weft/kernels/rotate_scatter.hpp>
#include <weft/kernels/thread_pool.hpp>

#include "pass_operations.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// Rows [first_row, first_row + rows) of a chunk lie in a cache from row `slot` of one KV head on.
struct slot_run {
  kv_cache* cache = nullptr;
  std::uint32_t kv_head = 0;
  std::uint32_t first_row = 0;
  std::uint32_t rows = 0;
  std::uint32_t slot = 0;
};

// Keeps its memory from pass to pass.
class fresh_rows {
 public:
  explicit fresh_rows(const kv_shape& shape) : shape_(shape) {}

  // Gives the chunk's rows their places in the layer and adds these to `runs`.
  void open(std::uint32_t layer, const row_chunk& chunk, std::vector<slot_run>& runs);

  // K before RoPE and V, [row][kv_head][head_dim], to these places: rotated by the row's entry of the table.
  void scatter(std::uint32_t layer, std::span<const slot_run> runs, const std::byte* k, const std::byte* v,
               const kernels::rotation_table& rotations, kernels::thread_pool& pool);

 private:
  kv_shape shape_;
  std::vector<std::uint32_t> slots_;
  std::vector<std::uint16_t> row_numbers_;  // 0, 1, 2, ...
  std::vector<kernels::scatter_rows> scatters_;
};

}  // namespace weft::engine
