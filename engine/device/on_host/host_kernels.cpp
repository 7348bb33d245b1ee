#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/linear.hpp>

#include "cuda/activations_body.hpp"
#include "device_alignment.hpp"
#include "device_kernels.hpp"
#include "host_arguments.hpp"
#include "host_attention.hpp"
#include "host_blocks.hpp"
#include "reference/host_warp.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace weft::engine {

namespace {

using namespace kernels::cuda;
using device::host_device;
using kernels::dtype;

template <class Body>
void each_value(std::uint32_t rows, std::uint32_t columns, const Body& body) {
  for (std::uint32_t row = 0; row < rows; ++row)
    for (std::uint32_t column = 0; column < columns; ++column)
      body(row, column);
}

// By the CPU's kernel, in f32. cuBLASLt chooses what it does for addresses as `cudaMalloc` gives them.
void multiply(const host_device& on, const product_work& work) {
  kernels::thread_pool pool(1);
  constexpr std::size_t alignment = device_alignment_bytes;
  const std::size_t bytes = kernels::size_bytes(work.type);
  const std::size_t width = work.inputs;
  const kernels::weight_part part{on.at(work.weights, work.outputs * width * bytes, alignment), work.outputs};
  const kernels::linear matrix({&part, 1}, work.type, work.inputs, kernels::products::f32, pool);
  std::vector<float> x(work.rows * width);
  kernels::to_f32(work.type, on.at(work.x, x.size() * bytes, alignment), x.data(), x.size());
  kernels::linear_input packed;
  packed.pack(x.data(), work.rows, work.inputs, width, matrix.input_dtype(), pool);
  matrix.apply(packed, on.at(work.y, span_of(work.rows, work.y_stride, work.outputs), alignment),
               work.y_stride, pool, work.add ? kernels::write_mode::add : kernels::write_mode::overwrite);
}

template <class Elements>
void norm(const host_device& on, norm_work work) {
  const std::size_t width = std::size_t{work.groups} * work.columns;
  work.x = on.at(work.x, span_of(work.rows, work.x_stride, width));
  work.out = on.at(work.out, span_of(work.rows, work.out_stride, width) * sizeof(typename Elements::storage));
  work.weight = on.at(work.weight, work.columns);
  const kernels::reference::host_warp warp;
  for (std::size_t i = 0; i < std::size_t{work.rows} * work.groups; ++i) {
    const float* const x = norm_input(work, i);
    const float sum = sum_of_squares(warp, x, work.columns, 0, warp_lanes)[0];
    write_normed<Elements>(work, x, norm_factor(sum, work.columns, work.epsilon),
                           norm_output<Elements>(work, i), 0, 1);
  }
}

class host_kernels final : public device_kernels {
 public:
  std::uint32_t warps_at_once() const override { return 8; }
  std::uint32_t blocks_at_once() const override { return 4; }

  void product(const product_work& work, device::stream& on) override {
    run_on_host(on, [work](const host_device& device) { multiply(device, work); });
  }
  void norm_rows(const norm_work& work, device::stream& on) override {
    run_on_host(on, [work](const host_device& device) {
      for_elements(work.out_type, [&]<class Elements>() { norm<Elements>(device, work); });
    });
  }
  void add_bias(const bias_work& work, device::stream& on) override {
    run_on_host(on, [work = work](const host_device& device) mutable {
      work.x = device.at(work.x, span_of(work.rows, work.x_stride, work.columns));
      work.bias = device.at(work.bias, work.columns);
      each_value(work.rows, work.columns, [&](auto row, auto column) { add_bias_to(work, row, column); });
    });
  }
  void round_rows(const round_work& work, device::stream& on) override {
    run_on_host(on, [work = work](const host_device& device) mutable {
      const std::size_t values = std::size_t{work.rows} * work.columns;
      work.x = device.at(work.x, span_of(work.rows, work.x_stride, work.columns));
      work.out = device.at(work.out, values * kernels::size_bytes(work.out_type));
      for_elements(work.out_type, [&]<class Elements>() {
        each_value(work.rows, work.columns,
                   [&](auto row, auto column) { round_value<Elements>(work, row, column); });
      });
    });
  }
  void swiglu_rows(const swiglu_work& work, device::stream& on) override {
    run_on_host(on, [work = work](const host_device& device) mutable {
      const std::size_t values = std::size_t{work.rows} * work.columns;
      work.gate_up = device.at(work.gate_up, 2 * values);
      work.out = device.at(work.out, values * kernels::size_bytes(work.out_type));
      for_elements(work.out_type, [&]<class Elements>() {
        each_value(work.rows, work.columns,
                   [&](auto row, auto column) { swiglu_value<Elements>(work, row, column); });
      });
    });
  }
  void gelu_rows(const gelu_work& work, device::stream& on) override {
    run_on_host(on, [work = work](const host_device& device) mutable {
      work.x = device.at(work.x, span_of(work.rows, work.x_stride, work.columns));
      each_value(work.rows, work.columns, [&](auto row, auto column) { gelu_value(work, row, column); });
    });
  }
  void rotate_rows(const rotation_work& work, device::stream& on) override {
    run_on_host(on, [work = work](const host_device& device) mutable {
      const std::uint32_t width = work.heads * work.head_dim;
      work.x = device.at(work.x, span_of(work.rows, work.x_stride, width));
      work.rotations = device.at(work.rotations, std::size_t{work.rows} * work.head_dim);
      each_value(work.rows, width / 2, [&](auto row, auto pair) { rotate_pair(work, row, pair); });
    });
  }
  void move_rows(const move_work& work, device::stream& on) override {
    run_on_host(on, [work = work](const host_device& device) mutable {
      work.row = device.at(work.row, work.rows);
      const std::uint32_t last = work.rows == 0 ? 0 : work.row[work.rows - 1];  // they ascend
      work.from = device.at(work.from, span_of(last + std::size_t{1}, work.from_stride, work.columns));
      work.to = device.at(work.to, span_of(work.rows, work.to_stride, work.columns));
      each_value(work.rows, work.columns, [&](auto row, auto column) { move_value(work, row, column); });
    });
  }
  void label_rows(const label_item* items, std::uint32_t count, std::uint32_t most_rows,
                  device::stream& on) override {
    run_on_host(on, [=](const host_device& device) {
      const label_item* const described = device.at(items, count);
      for (std::uint32_t i = 0; i < count; ++i) {
        label_item item = described[i];
        if (item.rows > most_rows) throw std::invalid_argument("an item has more rows than was said");
        item.positions = device.at(item.positions, item.rows);
        item.segments = device.at(item.segments, item.rows);
        item.positions_out = device.at(item.positions_out, item.rows);
        item.segments_out = device.at(item.segments_out, item.rows);
        for (std::uint32_t row = 0; row < item.rows; ++row)
          label_row(item, row);
      }
    });
  }
  void rotate_scatter(const scatter_rows* items, std::uint32_t count, std::uint32_t most_rows,
                      std::uint32_t head_dim, dtype type, device::stream& on) override {
    run_on_host(on, [=](const host_device& device) {
      const scatter_rows* const described = device.at(items, count);
      const std::size_t bytes = kernels::size_bytes(type);
      for (std::uint32_t i = 0; i < count; ++i) {
        scatter_rows item = described[i];
        if (item.rows > most_rows) throw std::invalid_argument("an item has more rows than was said");
        const bool raw = item.coding == kernels::row_codec::raw;
        const std::size_t source = raw ? span_of(item.rows, item.source_row_stride, head_dim) * bytes
                                       : item.rows * kernels::code_bytes(item.coding, type, head_dim);
        const std::size_t scales = item.rows * kernels::scales_per_row(item.coding, head_dim);
        const std::size_t moved = move_bytes(head_dim / 2 * bytes, bytes);
        if (raw && item.source_row_stride * bytes % moved != 0)
          throw std::invalid_argument("rows of a source that are not moved whole");
        item.k = device.at(item.k, source, raw ? moved : 1);
        item.v = device.at(item.v, source, raw ? moved : 1);
        if (scales > 0) {
          item.k_scales = device.at(item.k_scales, scales);
          item.v_scales = device.at(item.v_scales, scales);
        }
        std::size_t entries = item.rows;
        if (item.entries != nullptr) {
          item.entries = device.at(item.entries, item.rows);
          entries = std::size_t{*std::max_element(item.entries, item.entries + item.rows)} + 1;
        }
        item.rotations = device.at(item.rotations, entries * head_dim);
        item.k_out = device.at(item.k_out, std::size_t{item.rows} * head_dim * bytes, moved);
        item.v_out = device.at(item.v_out, std::size_t{item.rows} * head_dim * bytes, moved);
        for_elements(type, [&]<class Elements>() {
          each_value(item.rows, head_dim / 2, [&](auto row, auto part) {
            rotate_stored_part<Elements, 1>(item, row, part, head_dim);
          });
        });
      }
    });
  }
  void attention_decode(const kernels::attention_shape& shape, const decode_work& work,
                        device::stream& on) override {
    run_on_host(on, [=](const host_device& device) { attend_decode(device, shape, work); });
  }
  void attention_prefill(const kernels::attention_shape& shape, const prefill_work& work, float* out,
                         std::size_t out_stride, device::stream& on) override {
    run_on_host(on, [=](const host_device& device) { attend_prefill(device, shape, work, out, out_stride); });
  }
  void attention_log_sums(const kernels::attention_shape& shape, const prefill_work& work, float* out,
                          device::stream& on) override {
    run_on_host(on, [=](const host_device& device) { sum_lines(device, shape, work, out); });
  }
  void attention_columns(const kernels::attention_shape& shape, const column_work& work,
                         kernels::column_statistic statistic, device::stream& on) override {
    run_on_host(on, [=](const host_device& device) { reduce_columns(device, shape, work, statistic); });
  }
  void fill_parts(const filled_part* items, std::uint32_t count, device::stream& on) override {
    run_on_host(on, [=](const host_device& device) { fill(device, items, count); });
  }
  void gather_band_rows(const band_rows* items, std::uint32_t count, std::uint32_t row_bytes,
                        device::stream& on) override {
    run_on_host(on, [=](const host_device& device) { gather(device, items, count, row_bytes); });
  }
  void encode_rows(const rows_to_encode* items, std::uint32_t count, std::uint32_t most_rows,
                   std::uint32_t head_dim, dtype type, device::stream& on) override {
    run_on_host(on,
                [=](const host_device& device) { encode(device, items, count, most_rows, head_dim, type); });
  }
  void checksums(const checked_part* parts, std::uint32_t count, std::uint64_t* out,
                 device::stream& on) override {
    run_on_host(on, [=](const host_device& device) { sum_parts(device, parts, count, out); });
  }
};

}  // namespace

std::shared_ptr<const compute_device> host_compute_device(std::size_t memory_bytes) {
  return std::make_shared<const compute_device>(
      compute_device{host_device::make(memory_bytes), std::make_shared<host_kernels>()});
}

}  // namespace weft::engine
