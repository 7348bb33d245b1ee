// What a forward pass does to activations between its products, on a GPU: operations of activations.hpp.
// All pointers are the device's; activations are f32, what the next product reads is of its own type. Needs
// no CUDA itself.
#pragma once

#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// out = x / sqrt(mean(x^2) + epsilon) * weight, for each vector of `columns` values: `groups` of them a row,
// one behind the other. `out` may be `x`, where it is f32 with the same stride. Strides are in elements.
struct norm_work {
  const float* x = nullptr;
  std::size_t x_stride = 0;
  std::byte* out = nullptr;
  std::size_t out_stride = 0;
  dtype out_type = dtype::f32;
  std::uint32_t rows = 0;
  std::uint32_t groups = 1;
  std::uint32_t columns = 0;
  const float* weight = nullptr;  // [columns]
  float epsilon = 0.0F;
};

// x += bias, row by row.
struct bias_work {
  float* x = nullptr;
  std::size_t x_stride = 0;
  const float* bias = nullptr;  // [columns]
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
};

// out = x, rounded: [rows][columns] without gaps.
struct round_work {
  const float* x = nullptr;
  std::size_t x_stride = 0;
  std::byte* out = nullptr;
  dtype out_type = dtype::f32;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
};

// out = silu(gate) * up, rounded: [rows][columns] without gaps. A row has `columns` gates and as many ups.
struct swiglu_work {
  const float* gate_up = nullptr;  // [rows][2 * columns]
  std::byte* out = nullptr;
  dtype out_type = dtype::f32;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
};

// x = x times the normal distribution's share below x, row by row.
struct gelu_work {
  float* x = nullptr;
  std::size_t x_stride = 0;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
};

// Rotary position embedding in place: row r by the r-th rotation (half a head of cosines, half of sines).
struct rotation_work {
  float* x = nullptr;  // [rows][heads][head_dim]
  std::size_t x_stride = 0;
  const float* rotations = nullptr;  // [rows][head_dim]
  std::uint32_t rows = 0;
  std::uint32_t heads = 0;
  std::uint32_t head_dim = 0;
};

// Rows `row[0]`, `row[1]`, ... one behind the other. Source and target do not overlap.
struct move_work {
  const float* from = nullptr;
  std::size_t from_stride = 0;
  const std::uint32_t* row = nullptr;  // [rows]
  float* to = nullptr;
  std::size_t to_stride = 0;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
};

// Positions and segments of consecutive rows of a cache.
struct label_item {
  const std::int32_t* positions = nullptr;
  const std::int32_t* segments = nullptr;
  std::int32_t* positions_out = nullptr;
  std::int32_t* segments_out = nullptr;
  std::uint32_t rows = 0;
};

}  // namespace weft::kernels::cuda
