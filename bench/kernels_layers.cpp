#include "kernels_run.hpp"
#include "llama_layers.hpp"

#include <algorithm>
#include <string>

namespace weft::bench {

namespace {

constexpr std::uint32_t model_layers = 16;

void measure_prefill(kernels_run& run, llama_layers& layers, std::uint32_t layer_count, std::uint32_t rows) {
  const auto times = measure_beside(
      std::min(run.rounds, 5U), [&] { layers.prefill(rows); }, [&] { layers.prefill_products(rows); });
  constexpr double layer_weights = 2048.0 * (3072 + 2048 + 3 * 8192);
  const double gflop = 2e-9 * layer_weights * layer_count * rows;
  run.add({.name = "prefill of " + std::to_string(rows) + " rows, Llama-3.2-1B layers",
           .operation = "prefill",
           .gflop_per_s = gflop / times.seconds,
           .limit_name = "its products alone",
           .limit_gflop_per_s = gflop / times.limit_seconds,
           .ratio = times.ratio,
           .tokens_per_s = rows / (times.seconds * model_layers / layer_count)});
}

void measure_decode(kernels_run& run, llama_layers& layers, std::uint32_t depth) {
  const std::size_t bytes = layers.weight_bytes() + depth * layers.cache_row_bytes();
  const kernels::aligned_buffer memory = random_bf16(stream_bytes, run.pool);
  const std::span<const std::byte> all(memory.data(), memory.size_bytes());
  const auto times = measure_beside(
      run.rounds, [&] { layers.decode(depth); }, [&] { read_all(all, run.pool); });
  const double gigabytes = static_cast<double>(bytes) * 1e-9;
  const double read_share = static_cast<double>(bytes) / static_cast<double>(stream_bytes);
  run.add({.name = "decode step behind " + std::to_string(depth) + " rows, Llama-3.2-1B",
           .operation = "decode",
           .gb_per_s = gigabytes / times.seconds,
           .limit_name = "memory read",
           .limit_gb_per_s = gigabytes / (times.limit_seconds * read_share),
           .ratio = times.ratio * read_share,
           .tokens_per_s = 1.0 / times.seconds});
}

}  // namespace

void measure_layers(kernels_run& run) {
  {
    constexpr std::uint32_t few = 2;  // layers are alike, and a prefill is bound by arithmetic
    llama_layers layers(few, 2048, run.pool);
    for (const std::uint32_t rows : {512U, 2048U})
      measure_prefill(run, layers, few, rows);
  }
  llama_layers layers(model_layers, 8193, run.pool);
  for (const std::uint32_t depth : {0U, 2048U, 8192U})
    measure_decode(run, layers, depth);
}

}  // namespace weft::bench
