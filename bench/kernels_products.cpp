#include <weft/kernels/convert.hpp>
#include <weft/kernels/linear.hpp>

#include "kernels_run.hpp"
#include "library_product.hpp"

#include <string>
#include <vector>

namespace weft::bench {

namespace {

struct product_shape {
  std::uint32_t rows, inputs, outputs;

  double gflop() const { return 2e-9 * rows * inputs * outputs; }
  std::string name() const {
    return std::to_string(rows) + " x " + std::to_string(inputs) + " -> " + std::to_string(outputs);
  }
};

void measure_prefill_product(kernels_run& run, const product_shape& shape, const std::byte* weights) {
  using namespace kernels;
  const std::size_t values = std::size_t{shape.rows} * shape.inputs;
  const aligned_buffer narrow = random_bf16(values * 2, run.pool);
  std::vector<float> x(values);
  to_f32(dtype::bf16, narrow.data(), x.data(), values);
  std::vector<float> y(std::size_t{shape.rows} * shape.outputs);

  const weight_part part{weights, shape.outputs};
  const linear ours({&part, 1}, dtype::bf16, shape.inputs, products::automatic, run.pool);
  library_product library(weights, shape.rows, shape.inputs, shape.outputs, run.pool.threads());
  linear_input input;
  const auto times = measure_beside(
      run.rounds,
      [&] {
        // Ours rounds the activations first, the library gets them rounded.
        input.pack(x.data(), shape.rows, shape.inputs, shape.inputs, ours.input_dtype(), run.pool);
        ours.apply(input, y.data(), shape.outputs, run.pool);
      },
      [&] { library.run(narrow.data(), y.data()); }, turns::own_threads);
  run.add({.name = "product " + shape.name(),
           .operation = "product",
           .gflop_per_s = shape.gflop() / times.seconds,
           .limit_name = "oneDNN, its own layout",
           .limit_gflop_per_s = shape.gflop() / times.limit_seconds,
           .ratio = times.ratio});
}

// One row: memory decides. Different weights follow each other, as layers do.
void measure_decode_product(kernels_run& run, std::uint32_t inputs, std::uint32_t outputs,
                            std::span<const std::byte> weights) {
  using namespace kernels;
  const std::size_t matrix_bytes = std::size_t{inputs} * outputs * 2;
  std::vector<linear> matrices;
  for (std::size_t first = 0; first + matrix_bytes <= weights.size(); first += matrix_bytes) {
    const weight_part part{weights.data() + first, outputs};
    matrices.emplace_back(std::span(&part, 1), dtype::bf16, inputs, products::automatic, run.pool);
  }
  const std::vector<float> x(inputs, 0.5F);
  std::vector<float> y(outputs);
  linear_input input;
  const auto times = measure_beside(
      run.rounds,
      [&] {
        for (const linear& matrix : matrices) {
          input.pack(x.data(), 1, inputs, inputs, matrix.input_dtype(), run.pool);
          matrix.apply(input, y.data(), outputs, run.pool);
        }
      },
      [&] { read_all(weights.first(matrices.size() * matrix_bytes), run.pool); });
  const double gigabytes = static_cast<double>(matrices.size() * matrix_bytes) * 1e-9;
  run.add({.name = "product " + product_shape{1, inputs, outputs}.name(),
           .operation = "product",
           .gb_per_s = gigabytes / times.seconds,
           .limit_name = "memory read",
           .limit_gb_per_s = gigabytes / times.limit_seconds,
           .ratio = times.ratio});
}

}  // namespace

void measure_products(kernels_run& run) {
  const kernels::aligned_buffer memory = random_bf16(stream_bytes, run.pool);
  const std::span<const std::byte> weights(memory.data(), memory.size_bytes());
  for (const std::uint32_t rows : {512U, 2048U}) {
    measure_prefill_product(run, {rows, 2048, 2048}, memory.data());
    measure_prefill_product(run, {rows, 2048, 512}, memory.data());
    measure_prefill_product(run, {rows, 2048, 8192}, memory.data());
    measure_prefill_product(run, {rows, 8192, 2048}, memory.data());
  }
  measure_decode_product(run, 2048, 2048, weights);
  measure_decode_product(run, 2048, 16384, weights);
  measure_decode_product(run, 8192, 2048, weights);
}

}  // namespace weft::bench
