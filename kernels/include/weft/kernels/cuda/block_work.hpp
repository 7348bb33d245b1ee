// What blocks are written from and proven by, as it lies in device memory: the work of band_rows.hpp,
// row_encoding.hpp and checksums.hpp. Needs no CUDA itself.
#pragma once

#include <weft/kernels/row_codec.hpp>

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
  std::uint16_t* positions = nullptr;  // null: not wanted
};

// Numbers that go somewhere, and zeros behind them: a block's counts and positions, and what fills its parts
// up.
struct filled_part {
  const std::uint16_t* numbers = nullptr;
  std::uint32_t count = 0;
  std::uint32_t zero_bytes = 0;  // behind the numbers
  std::byte* to = nullptr;       // of an even address where there are numbers
};

// The keys, or the values, of one (layer, KV head). Pointers are the device's.
struct rows_to_encode {
  const std::byte* rows = nullptr;         // elements of the raw type
  std::size_t row_stride = 0;              // elements
  const std::uint16_t* indices = nullptr;  // [count] which of them; null: the first `count`
  std::uint32_t count = 0;
  row_codec coding = row_codec::int8;  // raw: nothing is done
  std::byte* codes = nullptr;          // [count][code_bytes]
  std::uint16_t* scales = nullptr;     // [count][scales_per_row]
};

// In device memory, from a multiple of 8 bytes on. Bands and header regions are multiples of 8 bytes long.
struct checked_part {
  const std::byte* data = nullptr;
  std::uint64_t words = 0;  // of 8 bytes
};

}  // namespace weft::kernels::cuda
