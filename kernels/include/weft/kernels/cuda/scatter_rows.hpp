// What rotate_scatter.hpp rotates, as it lies in device memory. Needs no CUDA itself.
#pragma once

#include <weft/kernels/row_codec.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// The rows of one (layer, KV head) of one block, and where they go. Pointers are the device's. Rows begin at
// multiples of 16 bytes, unless half a head is no multiple of that.
struct scatter_rows {
  const std::byte* k = nullptr;  // before RoPE; raw rows are `source_row_stride` elements apart
  const std::byte* v = nullptr;
  std::size_t source_row_stride = 0;
  row_codec coding = row_codec::raw;        // of the source; what is written is raw
  const std::uint16_t* k_scales = nullptr;  // [rows][scales_per_row], where it is not raw
  const std::uint16_t* v_scales = nullptr;
  const std::uint16_t* entries = nullptr;  // row r takes entry entries[r] of the table; null: entry r
  std::uint32_t rows = 0;
  const float* rotations = nullptr;  // by entry: head_dim/2 cosines, head_dim/2 sines
  std::byte* k_out = nullptr;        // [rows][head_dim], not overlapping the source
  std::byte* v_out = nullptr;
};

}  // namespace weft::kernels::cuda
