#include <weft/kernels/convert.hpp>
#include <weft/kernels/linear.hpp>

#include "cpu/row_tasks.hpp"
#include "cpu/swiglu_row.hpp"
#include "cpu/tile_layout.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

// The stored matrix is a row of tiles of 64 outputs. Inside a tile the inputs follow each other, so that a
// pass over the tile reads memory in order:
//   bf16        [inputs/2][64 outputs][2 inputs], an odd last input paired with zero
//   f16, f32    [inputs][64 outputs]
// Outputs beyond the last are zero.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/linear.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/tile-inl.hpp"
#include "cpu/transpose-inl.hpp"

#ifndef WEFT_KERNELS_LINEAR_ONCE
#define WEFT_KERNELS_LINEAR_ONCE
namespace weft::kernels {

// Rows [first_row, first_row + rows) of one product with one tile.
struct tile_product {
  dtype weights;
  dtype input;
  const std::byte* x;
  std::size_t x_stride_bytes;
  std::size_t rows;
  const std::byte* tile;
  std::size_t inputs;
  float* y;  // first row, first output of the tile
  std::size_t y_stride;
  std::size_t outputs;  // of this tile, at most tile_columns
  const float* bias;    // [tile_columns] or null
  bool add;
  bool from_zero;  // neither bias nor what y held before
};

}  // namespace weft::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Inputs per pass over a block of rows: the tile's part (128 KiB of bf16) stays in the second-level cache
// while the rows stream past.
constexpr std::size_t inputs_per_pass = 1024;

// From here on rows stream past a cached tile; below, the tile itself streams from memory.
constexpr std::size_t rows_that_reuse_a_tile = 2 * tile_rows;

constexpr std::size_t stream_ahead_bytes = 4096;

template <int rows>
HWY_INLINE void load_sums(const float* y, std::size_t stride, accumulators* acc) {
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < tile_vectors; ++v)
      acc[row][v] = hn::LoadU(f32_tag(), y + row * stride + v * lanes);
  }
}

template <int rows>
HWY_INLINE void clear_sums(accumulators* acc) {
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < tile_vectors; ++v)
      acc[row][v] = hn::Zero(f32_tag());
  }
}

template <int rows>
HWY_INLINE void store_sums(const accumulators* acc, float* y, std::size_t stride) {
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < tile_vectors; ++v)
      hn::StoreU(acc[row][v], f32_tag(), y + row * stride + v * lanes);
  }
}

// y[rows][tile_columns] += x * part of the tile; `from_zero`: y holds no sums yet.
template <class Steps, int rows, std::size_t ahead_bytes>
void multiply_rows(const std::byte* x, std::size_t x_stride_bytes, const std::byte* tile, std::size_t steps,
                   float* y, std::size_t y_stride, bool from_zero) {
  using operand = typename Steps::operand;
  constexpr std::size_t step_bytes = tile_columns * Steps::column_bytes;
  const auto* a = reinterpret_cast<const operand*>(x);
  for (std::size_t column = 0; column < tile_columns; column += group_columns) {
    accumulators acc[rows];
    if (from_zero) {
      clear_sums<rows>(acc);
    } else {
      load_sums<rows>(y + column, y_stride, acc);
    }
    multiply_steps<Steps, rows, ahead_bytes>(a, x_stride_bytes / sizeof(operand),
                                             tile + column * Steps::column_bytes, step_bytes, steps, acc);
    store_sums<rows>(acc, y + column, y_stride);
  }
}

template <class Steps, std::size_t ahead_bytes>
void multiply_some_rows(std::size_t rows, const std::byte* x, std::size_t x_stride_bytes,
                        const std::byte* tile, std::size_t steps, float* y, std::size_t y_stride,
                        bool from_zero) {
  static_assert(tile_rows == 6);
  switch (rows) {
    case 1:
      return multiply_rows<Steps, 1, ahead_bytes>(x, x_stride_bytes, tile, steps, y, y_stride, from_zero);
    case 2:
      return multiply_rows<Steps, 2, ahead_bytes>(x, x_stride_bytes, tile, steps, y, y_stride, from_zero);
    case 3:
      return multiply_rows<Steps, 3, ahead_bytes>(x, x_stride_bytes, tile, steps, y, y_stride, from_zero);
    case 4:
      return multiply_rows<Steps, 4, ahead_bytes>(x, x_stride_bytes, tile, steps, y, y_stride, from_zero);
    case 5:
      return multiply_rows<Steps, 5, ahead_bytes>(x, x_stride_bytes, tile, steps, y, y_stride, from_zero);
    default:
      return multiply_rows<Steps, 6, ahead_bytes>(x, x_stride_bytes, tile, steps, y, y_stride, from_zero);
  }
}

void start_sums(const tile_product& p, std::size_t row, float* sums) {
  for (std::size_t column = 0; column < p.outputs; ++column) {
    const float before = p.add ? p.y[row * p.y_stride + column] : 0.0F;
    sums[column] = p.bias != nullptr ? before + p.bias[column] : before;
  }
}

template <class Steps, std::size_t ahead_bytes>
void multiply_all_rows(const tile_product& p, float* y, std::size_t y_stride) {
  const std::size_t all_steps = (p.inputs + Steps::values - 1) / Steps::values;
  const std::size_t steps_per_pass =
      p.rows < rows_that_reuse_a_tile ? all_steps : inputs_per_pass / Steps::values;
  for (std::size_t step = 0; step < all_steps; step += steps_per_pass) {
    const std::size_t steps = std::min(steps_per_pass, all_steps - step);
    const std::byte* x = p.x + step * Steps::values * sizeof(typename Steps::operand);
    const std::byte* tile = p.tile + step * tile_columns * Steps::column_bytes;
    for (std::size_t row = 0; row < p.rows; row += tile_rows) {
      multiply_some_rows<Steps, ahead_bytes>(std::min(tile_rows, p.rows - row), x + row * p.x_stride_bytes,
                                             p.x_stride_bytes, tile, steps, y + row * y_stride, y_stride,
                                             p.from_zero && step == 0);
    }
  }
}

template <class Steps>
void multiply_with(const tile_product& p, float* y, std::size_t y_stride) {
  if (p.rows < rows_that_reuse_a_tile) {
    return multiply_all_rows<Steps, stream_ahead_bytes>(p, y, y_stride);
  }
  multiply_all_rows<Steps, 0>(p, y, y_stride);
}

void multiply_by_type(const tile_product& p, float* y, std::size_t y_stride) {
#if WEFT_KERNELS_NATIVE_BF16
  if (p.input == dtype::bf16) return multiply_with<bf16_pair_steps>(p, y, y_stride);
#endif
  if (p.weights == dtype::bf16) return multiply_with<widened_pair_steps>(p, y, y_stride);
  if (p.weights == dtype::f16) return multiply_with<f16_steps>(p, y, y_stride);
  multiply_with<f32_steps>(p, y, y_stride);
}

// The last tile may have fewer outputs than columns: its sums are made beside y.
void multiply_narrow_tile(const tile_product& p) {
  alignas(64) float sums[tile_rows * tile_columns] = {};
  for (std::size_t first = 0; first < p.rows; first += tile_rows) {
    tile_product part = p;
    part.x = p.x + first * p.x_stride_bytes;
    part.y = p.y + first * p.y_stride;
    part.rows = std::min(tile_rows, p.rows - first);
    for (std::size_t row = 0; row < part.rows; ++row)
      start_sums(part, row, sums + row * tile_columns);
    multiply_by_type(part, sums, tile_columns);
    for (std::size_t row = 0; row < part.rows; ++row) {
      std::copy_n(sums + row * tile_columns, p.outputs, part.y + row * p.y_stride);
    }
  }
}

void multiply_tile(const tile_product& p) {
  if (p.outputs < tile_columns) return multiply_narrow_tile(p);
  for (std::size_t row = 0; row < p.rows && !p.from_zero; ++row)
    start_sums(p, row, p.y + row * p.y_stride);
  multiply_by_type(p, p.y, p.y_stride);
}

// A whole tile from rows of 32-bit units that follow each other.
void pack_whole_tile(const std::byte* rows, std::size_t units, std::byte* tile) {
  constexpr std::size_t block_units = 16;  // a cache line of every row at a time
  const auto* in = reinterpret_cast<const std::uint32_t*>(rows);
  auto* out = reinterpret_cast<std::uint32_t*>(tile);
  for (std::size_t first = 0; first < units; first += block_units) {
    transpose_rows(in + first, units, tile_columns, std::min(block_units, units - first),
                   out + first * tile_columns);
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(multiply_tile);
HWY_EXPORT(pack_whole_tile);

namespace {

// Row strides that are no multiple of 4 KiB keep the rows of a tile out of each other's cache sets.
constexpr std::size_t row_padding_bytes = 64;

std::size_t even(std::size_t inputs) {
  return inputs + inputs % 2;
}

std::size_t tile_bytes(dtype weights, std::size_t inputs) {
  return tile_columns * size_bytes(weights) * (weights == dtype::bf16 ? even(inputs) : inputs);
}

// Where the stacked parts keep their rows.
class stacked_rows {
 public:
  stacked_rows(std::span<const weight_part> parts, std::size_t row_bytes)
      : parts_(parts), row_bytes_(row_bytes) {}

  const std::byte* row(std::size_t output) const {
    for (const weight_part& part : parts_) {
      if (output < part.outputs) return part.data + output * row_bytes_;
      output -= part.outputs;
    }
    return nullptr;
  }

 private:
  std::span<const weight_part> parts_;
  std::size_t row_bytes_;
};

// The rows of one tile; null beyond the last output.
class tile_source {
 public:
  tile_source(const stacked_rows& source, std::size_t first_output, std::size_t outputs) {
    for (std::size_t column = 0; column < tile_columns; ++column) {
      const std::size_t output = first_output + column;
      rows_[column] = output < outputs ? source.row(output) : nullptr;
    }
  }

  const std::byte* at(std::size_t column) const { return rows_[column]; }

  // As 32-bit units can be read: all there, one after the other, aligned.
  bool follow_each_other(std::size_t row_bytes) const {
    for (std::size_t column = 0; column < tile_columns; ++column) {
      if (rows_[column] != rows_[0] + column * row_bytes) return false;
    }
    return reinterpret_cast<std::uintptr_t>(rows_[0]) % 4 == 0;
  }

 private:
  const std::byte* rows_[tile_columns];
};

// One unit is what a column of a step is made of: a pair of bf16, or one value of the other types.
template <class Unit>
void pack_tile(const tile_source& rows, std::size_t row_bytes, std::size_t inputs_bytes_padded, Unit* tile) {
  constexpr std::size_t block_units = 16;  // a cache line of every row at a time
  const std::size_t units = inputs_bytes_padded / sizeof(Unit);
  for (std::size_t first = 0; first < units; first += block_units) {
    const std::size_t last = std::min(first + block_units, units);
    for (std::size_t column = 0; column < tile_columns; ++column) {
      for (std::size_t unit = first; unit < last; ++unit) {
        Unit value = 0;
        if (rows.at(column) != nullptr) {
          const std::size_t offset = unit * sizeof(Unit);
          std::memcpy(&value, rows.at(column) + offset, std::min(sizeof(Unit), row_bytes - offset));
        }
        tile[unit * tile_columns + column] = value;
      }
    }
  }
}

struct row_cut {
  std::size_t blocks;
  std::size_t each;
};

// Of a tile, for each row: what a thread has multiplied before another one has begun.
constexpr std::size_t bytes_of_one_thread = std::size_t{32} << 10;

// The grid of tasks is tiles times blocks of rows. Blocks are small enough that the part of their input one
// pass reads stays in the second-level cache beside the tile's, and that all threads end together, also where
// other processes slow one of them down.
row_cut cut_rows(std::size_t rows, std::size_t tiles, unsigned threads) {
  constexpr std::size_t most_rows = 48 * tile_rows;
  constexpr std::size_t fewest_rows = 16 * tile_rows;
  const std::size_t most = tiles < std::size_t{8} * threads ? fewest_rows : most_rows;
  const std::size_t blocks = std::max<std::size_t>((rows + most - 1) / most, 1);
  const std::size_t even_share = (rows + blocks - 1) / blocks;
  const std::size_t each = (even_share + tile_rows - 1) / tile_rows * tile_rows;
  return {each == 0 ? 0 : (rows + each - 1) / each, each};
}

void check(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace

void linear_input::shape(std::uint32_t rows, std::uint32_t inputs, dtype input_dtype) {
  rows_ = rows;
  inputs_ = inputs;
  dtype_ = input_dtype;
  const std::size_t row_bytes = even(inputs) * size_bytes(input_dtype);
  row_stride_bytes_ = (row_bytes + 63) / 64 * 64 + row_padding_bytes;
  data_ = memory_.reserve(row_stride_bytes_ * rows).data();
}

void linear_input::pack_row(std::size_t row, const float* x) {
  std::byte* const out = data_ + row * row_stride_bytes_;
  operands_from_f32(dtype_, x, out, inputs_);
  const std::size_t used = inputs_ * size_bytes(dtype_);
  std::memset(out + used, 0, even(inputs_) * size_bytes(dtype_) - used);
}

void linear_input::pack(const float* x, std::uint32_t rows, std::uint32_t inputs, std::size_t row_stride,
                        dtype input_dtype, thread_pool& pool) {
  shape(rows, inputs, input_dtype);
  parallel_for_rows(pool, rows, inputs * sizeof(float),
                    [&](std::size_t row, unsigned) { pack_row(row, x + row * row_stride); });
}

void linear_input::pack_swiglu(const float* gate, const float* up, std::uint32_t rows, std::uint32_t inputs,
                               std::size_t row_stride, dtype input_dtype, thread_pool& pool) {
  shape(rows, inputs, input_dtype);
  parallel_for_rows(pool, rows, 2 * sizeof(float) * inputs, [&](std::size_t row, unsigned worker) {
    auto* const gated = reinterpret_cast<float*>(pool.scratch(worker).reserve(inputs * sizeof(float)).data());
    swiglu_row(gate + row * row_stride, up + row * row_stride, gated, inputs);
    pack_row(row, gated);
  });
}

linear::linear(std::span<const weight_part> parts, dtype weights_dtype, std::uint32_t inputs,
               products allowed, thread_pool& pool, std::span<const float> bias)
    : inputs_(inputs),
      weights_dtype_(weights_dtype),
      input_dtype_(dense_operand_dtype(allowed, weights_dtype)) {
  for (const weight_part& part : parts)
    outputs_ += part.outputs;
  check(inputs > 0 && outputs_ > 0, "linear: a weight matrix needs inputs and outputs");
  check(bias.empty() || bias.size() == outputs_, "linear: one bias value per output");

  const std::size_t tiles = (outputs_ + tile_columns - 1) / tile_columns;
  const std::size_t row_bytes = inputs * size_bytes(weights_dtype);
  const std::size_t bytes_per_tile = tile_bytes(weights_dtype, inputs);
  memory_ = aligned_buffer(tiles * bytes_per_tile);
  const stacked_rows source(parts, row_bytes);
  auto* const pack_whole = &HWY_DYNAMIC_DISPATCH(pack_whole_tile);
  pool.parallel_for(tiles, [&](std::size_t tile, unsigned) {
    std::byte* out = memory_.data() + tile * bytes_per_tile;
    const tile_source rows(source, tile * tile_columns, outputs_);
    if (rows.follow_each_other(row_bytes) && weights_dtype != dtype::f16 && row_bytes % 4 == 0) {
      pack_whole(rows.at(0), row_bytes / 4, out);
      return;
    }
    const std::size_t padded = bytes_per_tile / tile_columns;
    if (weights_dtype == dtype::f16) {
      pack_tile(rows, row_bytes, padded, reinterpret_cast<std::uint16_t*>(out));
    } else {
      pack_tile(rows, row_bytes, padded, reinterpret_cast<std::uint32_t*>(out));
    }
  });
  if (!bias.empty()) {
    bias_.assign(bias.begin(), bias.end());
    bias_.resize(tiles * tile_columns);
  }
}

void linear::weights_of(std::uint32_t output, float* out) const {
  check(output < outputs_, "linear: more outputs than there are");
  const std::byte* const tile = memory_.data() + output / tile_columns * tile_bytes(weights_dtype_, inputs_);
  // How many inputs of a column lie side by side.
  const std::size_t together = weights_dtype_ == dtype::bf16 ? 2 : 1;
  const std::size_t size = size_bytes(weights_dtype_);
  for (std::size_t input = 0; input < inputs_; ++input) {
    const std::size_t at =
        (input / together * tile_columns + output % tile_columns) * together + input % together;
    to_f32(weights_dtype_, tile + at * size, out + input, 1);
  }
}

void linear::apply_first(std::uint32_t outputs, const linear_input& x, float* y, std::size_t row_stride,
                         thread_pool& pool, write_mode mode) const {
  check(x.inputs() == inputs_ && x.type() == input_dtype_, "linear: input packed for another matrix");
  check(outputs <= outputs_, "linear: more outputs than there are");
  const std::size_t tiles = (outputs + tile_columns - 1) / tile_columns;
  const std::size_t bytes_per_tile = tile_bytes(weights_dtype_, inputs_);
  const row_cut rows = cut_rows(x.rows(), tiles, pool.threads());
  auto* const multiply = &HWY_DYNAMIC_DISPATCH(multiply_tile);
  const auto multiply_part = [&](std::size_t index, unsigned) {
    const std::size_t tile = index / rows.blocks;
    const std::size_t row = index % rows.blocks * rows.each;
    tile_product p{};
    p.weights = weights_dtype_;
    p.input = input_dtype_;
    p.x = x.data() + row * x.row_stride_bytes();
    p.x_stride_bytes = x.row_stride_bytes();
    p.rows = std::min<std::size_t>(rows.each, x.rows() - row);
    p.tile = memory_.data() + tile * bytes_per_tile;
    p.inputs = inputs_;
    p.y = y + row * row_stride + tile * tile_columns;
    p.y_stride = row_stride;
    p.outputs = std::min<std::size_t>(tile_columns, outputs - tile * tile_columns);
    p.bias = bias_.empty() ? nullptr : bias_.data() + tile * tile_columns;
    p.add = mode == write_mode::add;
    p.from_zero = !p.add && p.bias == nullptr;
    multiply(p);
  };
  parallel_for_enough(pool, tiles * rows.blocks, tiles * bytes_per_tile * x.rows(), bytes_of_one_thread,
                      multiply_part);
}

}  // namespace weft::kernels
#endif
