// rotate_scatter.hpp of this folder's parent, on a GPU.
#pragma once

#include <weft/kernels/dtype.hpp>
#include <weft/kernels/row_codec.hpp>

#include <cuda_runtime_api.h>

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

// Keys are rotated in f32 and rounded to `type` once, values are copied, or decoded and rounded: the bytes
// are those of the CPU's form. `items`: `count` of them in device memory, none with more than `most_rows`
// rows. Runs behind `stream`; allocates nothing and does not wait, so a graph can capture it.
cudaError_t rotate_scatter(const scatter_rows* items, std::uint32_t count, std::uint32_t most_rows,
                           std::uint32_t head_dim, dtype type, cudaStream_t stream);

}  // namespace weft::kernels::cuda
