// From stored rows (keys before RoPE) to the local cache (keys rotated to where they land in the prompt).
#pragma once

#include <weft/kernels/dtype.hpp>
#include <weft/kernels/rope.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::kernels {

// The rows of one (layer, KV head) of one block, and where they go.
struct scatter_rows {
  const std::byte* k = nullptr;  // before RoPE; rows `source_row_stride` elements apart
  const std::byte* v = nullptr;
  std::size_t source_row_stride = 0;  // head_dim for the rows of a block
  // Row r takes entry entries[r] of the table (in a block: its position within the block); null: entry r.
  const std::uint16_t* entries = nullptr;
  std::uint32_t rows = 0;
  const rotation_table* rotations = nullptr;  // starts at the block's position in the prompt

  std::byte* k_out = nullptr;  // [rows][head_dim], not overlapping the source
  std::byte* v_out = nullptr;
  std::int32_t* positions_out = nullptr;  // [rows], the table's positions; may be null
};

// Keys are rotated in f32 and rounded to `type` once; values are copied. All items share head_dim
// (`rotations->head_dim()`) and dtype. Every entry must be below rotations->size(). The result does not
// depend on the number of threads or on how rows are grouped into items.
void rotate_scatter(std::span<const scatter_rows> items, dtype type, thread_pool& pool);

}  // namespace weft::kernels
