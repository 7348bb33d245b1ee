// What a forward pass runs on a device: the kernels of weft/kernels/cuda and products. Everything goes behind
// a stream and is told by its `wait` if it fails; all pointers in works are the device's.
#pragma once

#include <weft/device/device.hpp>
#include <weft/engine/rows_away.hpp>
#include <weft/engine/step_recordings.hpp>
#include <weft/engine/written_blocks.hpp>
#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/activation_work.hpp>
#include <weft/kernels/cuda/block_work.hpp>
#include <weft/kernels/cuda/decode_work.hpp>
#include <weft/kernels/cuda/prefill_work.hpp>
#include <weft/kernels/cuda/scatter_rows.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::engine {

// y = x W^T, or y += x W^T, with sums in f32.
struct product_work {
  const std::byte* weights = nullptr;  // [outputs][inputs]
  const std::byte* x = nullptr;        // [rows][inputs], of the weights' type
  float* y = nullptr;                  // [rows][outputs]
  std::size_t y_stride = 0;            // floats
  kernels::dtype type = kernels::dtype::bf16;
  std::uint32_t rows = 0;
  std::uint32_t inputs = 0;
  std::uint32_t outputs = 0;
  bool add = false;
};

// What a pass runs: one thread at a time, and one stream, since products share memory.
class device_kernels {
 public:
  virtual ~device_kernels() = default;

  step_recordings recordings;
  written_blocks blocks;
  rows_away away;

  // What the device runs at once: what plans are made for.
  virtual std::uint32_t warps_at_once() const = 0;
  virtual std::uint32_t blocks_at_once() const = 0;

  virtual void product(const product_work& work, device::stream& on) = 0;
  virtual void norm_rows(const kernels::cuda::norm_work& work, device::stream& on) = 0;
  virtual void add_bias(const kernels::cuda::bias_work& work, device::stream& on) = 0;
  virtual void round_rows(const kernels::cuda::round_work& work, device::stream& on) = 0;
  virtual void swiglu_rows(const kernels::cuda::swiglu_work& work, device::stream& on) = 0;
  virtual void gelu_rows(const kernels::cuda::gelu_work& work, device::stream& on) = 0;
  virtual void rotate_rows(const kernels::cuda::rotation_work& work, device::stream& on) = 0;
  virtual void move_rows(const kernels::cuda::move_work& work, device::stream& on) = 0;
  // `items`: `count` of them in device memory, none with more than `most_rows` rows.
  virtual void label_rows(const kernels::cuda::label_item* items, std::uint32_t count,
                          std::uint32_t most_rows, device::stream& on) = 0;
  virtual void rotate_scatter(const kernels::cuda::scatter_rows* items, std::uint32_t count,
                              std::uint32_t most_rows, std::uint32_t head_dim, kernels::dtype type,
                              device::stream& on) = 0;
  virtual void attention_decode(const kernels::attention_shape& shape, const kernels::cuda::decode_work& work,
                                device::stream& on) = 0;
  virtual void attention_prefill(const kernels::attention_shape& shape,
                                 const kernels::cuda::prefill_work& work, float* out, std::size_t out_stride,
                                 device::stream& on) = 0;
  // out: [row][query_head].
  virtual void attention_log_sums(const kernels::attention_shape& shape,
                                  const kernels::cuda::prefill_work& work, float* out,
                                  device::stream& on) = 0;
  virtual void attention_columns(const kernels::attention_shape& shape,
                                 const kernels::cuda::column_work& work, kernels::column_statistic statistic,
                                 device::stream& on) = 0;

  // What blocks are written with: any thread, each with streams of its own. Items are device memory's.
  virtual void fill_parts(const kernels::cuda::filled_part* items, std::uint32_t count,
                          device::stream& on) = 0;
  virtual void gather_band_rows(const kernels::cuda::band_rows* items, std::uint32_t count,
                                std::uint32_t row_bytes, device::stream& on) = 0;
  // None of the items has more than `most_rows` rows.
  virtual void encode_rows(const kernels::cuda::rows_to_encode* items, std::uint32_t count,
                           std::uint32_t most_rows, std::uint32_t head_dim, kernels::dtype type,
                           device::stream& on) = 0;
  virtual void checksums(const kernels::cuda::checked_part* parts, std::uint32_t count, std::uint64_t* out,
                         device::stream& on) = 0;
};

}  // namespace weft::engine
