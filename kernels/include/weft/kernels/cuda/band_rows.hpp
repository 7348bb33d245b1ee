// Rows of one band put together, on a GPU: what a block of several bands is written from.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// The rows of one (layer, KV head) of one block, and where those of one band go. Pointers are the device's;
// rows and outputs begin at multiples of 16, 4 or 2 bytes, as `row_bytes` is one.
struct band_rows {
  const std::uint8_t* bands = nullptr;  // of each row
  std::uint32_t rows = 0;               // up to 65,535
  std::uint8_t band = 0;
  const std::byte* k = nullptr;  // raw rows, `row_stride_bytes` apart
  const std::byte* v = nullptr;
  std::size_t row_stride_bytes = 0;
  // Room for as many rows as the band has here (count_band_rows). Null keys and values: positions alone are
  // wanted, as where rows are encoded from where they lie (row_encoding.hpp).
  std::byte* k_out = nullptr;  // [row][row_bytes]
  std::byte* v_out = nullptr;
  std::uint16_t* positions = nullptr;
};

// counts[i]: rows of items[i]'s band. Reads only `bands`, `rows` and `band`. Runs behind `stream`, as the
// other one: they allocate nothing and do not wait, so a graph can capture them.
cudaError_t count_band_rows(const band_rows* items, std::uint32_t count, std::uint32_t* counts,
                            cudaStream_t stream);

// Copies keys, values and positions of the band's rows, in their order. `row_bytes`: a multiple of 2, else
// cudaErrorInvalidValue; where it is one of 16 or 4, so is `row_stride_bytes`.
cudaError_t gather_band_rows(const band_rows* items, std::uint32_t count, std::uint32_t row_bytes,
                             cudaStream_t stream);

}  // namespace weft::kernels::cuda
