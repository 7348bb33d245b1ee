// y[rows, outputs] = x[rows, inputs] * W[outputs, inputs]^T + bias
//
// One stored layout serves prefill (many rows) and decode (few rows, at memory bandwidth). Every element of y
// is summed over the inputs in one fixed order: a row's result is the same, bit for bit, whatever the other
// rows, their number and the number of threads are.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/products.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::kernels {

// Part of a weight matrix, row-major [outputs][inputs], any alignment.
struct weight_part {
  const std::byte* data = nullptr;
  std::uint32_t outputs = 0;
};

// Activations in the form that `linear` multiplies. Packed once, used by every weight with the same
// `input_dtype`. Keeps its memory from call to call.
class linear_input {
 public:
  // x: f32 [rows][inputs], rows `row_stride` floats apart.
  void pack(const float* x, std::uint32_t rows, std::uint32_t inputs, std::size_t row_stride,
            dtype input_dtype, thread_pool& pool);

  // The same of silu(gate) * up (see swiglu.hpp), without a pass through memory for the product.
  void pack_swiglu(const float* gate, const float* up, std::uint32_t rows, std::uint32_t inputs,
                   std::size_t row_stride, dtype input_dtype, thread_pool& pool);

  std::uint32_t rows() const { return rows_; }
  std::uint32_t inputs() const { return inputs_; }
  dtype type() const { return dtype_; }
  const std::byte* data() const { return data_; }
  std::size_t row_stride_bytes() const { return row_stride_bytes_; }

 private:
  void shape(std::uint32_t rows, std::uint32_t inputs, dtype input_dtype);
  void pack_row(std::size_t row, const float* x);

  workspace memory_;
  std::byte* data_ = nullptr;
  std::size_t row_stride_bytes_ = 0;
  std::uint32_t rows_ = 0;
  std::uint32_t inputs_ = 0;
  dtype dtype_ = dtype::f32;
};

enum class write_mode : std::uint8_t { overwrite, add };  // add: y += x * W^T + bias

class linear {
 public:
  linear() = default;

  // Copies the weights, parts stacked in order (such as q, k and v, or gate and up, for one product), into
  // one matrix of their own dtype: about as many bytes as the source, which is not needed afterwards. `bias`
  // (f32) is empty or has one value per output of all parts.
  linear(std::span<const weight_part> parts, dtype weights_dtype, std::uint32_t inputs, products allowed,
         thread_pool& pool, std::span<const float> bias = {});

  std::uint32_t outputs() const { return outputs_; }
  std::uint32_t inputs() const { return inputs_; }
  dtype input_dtype() const { return input_dtype_; }
  dtype weights_dtype() const { return weights_dtype_; }
  std::size_t allocated_bytes() const { return memory_.size_bytes(); }
  // One output's weights as f32: [inputs].
  void weights_of(std::uint32_t output, float* out) const;
  std::span<const float> bias() const { return bias_; }  // [output] and more, or empty

  // y: f32 [x.rows()][outputs], rows `row_stride` floats apart. x.inputs() and x.type() must be this matrix's
  // `inputs()` and `input_dtype()`.
  void apply(const linear_input& x, float* y, std::size_t row_stride, thread_pool& pool,
             write_mode mode = write_mode::overwrite) const {
    apply_first(outputs_, x, y, row_stride, pool, mode);
  }
  // The same of the first `outputs` only; the weights of the others are not read.
  void apply_first(std::uint32_t outputs, const linear_input& x, float* y, std::size_t row_stride,
                   thread_pool& pool, write_mode mode = write_mode::overwrite) const;

 private:
  aligned_buffer memory_;
  std::vector<float> bias_;  // padded to whole tiles, or empty
  std::uint32_t outputs_ = 0;
  std::uint32_t inputs_ = 0;
  dtype weights_dtype_ = dtype::f32;
  dtype input_dtype_ = dtype::f32;
};

}  // namespace weft::kernels
