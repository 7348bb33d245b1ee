#include <weft/bench/engine.hpp>
#include <weft/engine/document.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/kernels/products.hpp>

#include "kernels_run.hpp"
#include "llama_layers.hpp"
#include "llama_shape.hpp"
#include "machine.hpp"
#include "value_of.hpp"

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace weft::bench {

namespace {

constexpr std::uint32_t model_layers = llama_3_2_1b_layers;
constexpr std::uint32_t chunk_rows = 512;
constexpr std::uint32_t deepest = 8192;

class engine_run {
 public:
  explicit engine_run(const engine_options& options)
      : options_(options),
        model_(value_of(engine::runner::with_random_weights(
            llama_3_2_1b(), {.threads = options.threads, .chunk_rows = chunk_rows}, 1))),
        cache_(model_.cache_shape(), deepest + 1),
        logits_(llama_layers::vocabulary) {}

  report run() {
    report_.machine = {cpu_name(), model_.threads().threads(), kernels::native_bf16_products()};
    for (const std::uint32_t rows : {512U, 2048U})
      measure_prefill(rows);
    for (const std::uint32_t depth : {0U, 2048U, deepest})
      measure_decode(depth);
    measure_load(2048);
    return std::move(report_);
  }

 private:
  void add(report_row row) {
    if (options_.progress) options_.progress(row);
    report_.rows.push_back(std::move(row));
  }

  void prefill(std::uint32_t rows) {
    cache_.truncate(0);
    batch_.clear();
    for (std::uint32_t row = 0; row < rows; ++row)
      batch_.add(static_cast<engine::token_id>(row * 7919 % llama_layers::vocabulary),
                 static_cast<std::int32_t>(row), 0);
    batch_.logits_rows.push_back(rows - 1);
    forward();
  }

  void forward() {
    engine::kv_cache* const caches[] = {&cache_};
    value_of(model_.forward(batch_, caches, logits_));
  }

  // Layers are alike and a prefill is bound by arithmetic: two layers' products, counted eight times.
  void measure_prefill(std::uint32_t rows) {
    constexpr std::uint32_t few = 2;
    llama_layers products(few, 1, model_.threads());
    const auto times = measure_beside(
        options_.rounds, [&] { prefill(rows); },
        [&] {
          for (std::uint32_t done = 0; done < rows * (model_layers / few); done += chunk_rows)
            products.prefill_products(chunk_rows);
        });
    constexpr double layer_weights = 2048.0 * (3072 + 2048 + 3 * 8192);
    const double gflop = 2e-9 * layer_weights * model_layers * rows;
    add({.name = "engine: prefill of " + std::to_string(rows) + " tokens, Llama-3.2-1B",
         .operation = "prefill",
         .gflop_per_s = gflop / times.seconds,
         .limit_name = "the layers' products alone",
         .limit_gflop_per_s = gflop / times.limit_seconds,
         .ratio = times.ratio,
         .tokens_per_s = rows / times.seconds});
  }

  engine::encoded_document some_document(std::uint32_t tokens) {
    engine::encoded_document document(model_.cache_shape(), tokens);
    const auto noise = random_bf16(document.allocated_bytes(), model_.threads());
    std::memcpy(document.k(), noise.data(), document.allocated_bytes() / 2);
    std::memcpy(document.v(), noise.data(), document.allocated_bytes() / 2);
    return document;
  }

  std::size_t cache_row_bytes() const {
    const auto shape = model_.cache_shape();
    return std::size_t{shape.layers} * shape.kv_heads * shape.head_dim * 2 * kernels::size_bytes(shape.dtype);
  }

  void measure_decode(std::uint32_t depth) {
    cache_.truncate(0);
    if (depth > 0) value_of(engine::scatter_document(model_, cache_, some_document(depth), 0, 1));
    const auto& config = model_.config();
    const double weights =
        2.0 * (static_cast<double>(config.layers) * config.hidden_size * (3072 + 2048 + 3 * 8192) +
               static_cast<double>(config.vocab_size) * config.hidden_size);
    const double bytes = weights + static_cast<double>(depth * cache_row_bytes());
    const auto memory = random_bf16(stream_bytes, model_.threads());
    const std::span<const std::byte> all(memory.data(), memory.size_bytes());
    const auto times = measure_beside(
        options_.rounds,
        [&] {
          cache_.truncate(static_cast<std::int32_t>(depth));
          batch_.clear();
          batch_.add(17, static_cast<std::int32_t>(depth), 0);
          batch_.logits_rows.push_back(0);
          forward();
        },
        [&] { read_all(all, model_.threads()); });
    const double read_share = bytes / static_cast<double>(stream_bytes);
    add({.name = "engine: decode step behind " + std::to_string(depth) + " rows, Llama-3.2-1B",
         .operation = "decode",
         .gb_per_s = bytes * 1e-9 / times.seconds,
         .limit_name = "memory read",
         .limit_gb_per_s = static_cast<double>(stream_bytes) * 1e-9 / times.limit_seconds,
         .ratio = times.ratio * read_share,
         .tokens_per_s = 1.0 / times.seconds});
  }

  // Full blocks of one band, each part of a (layer, KV head) as one piece.
  void copy_blocks(std::span<const block::view> blocks) {
    const auto shape = model_.cache_shape();
    const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
    model_.threads().parallel_for(blocks.size() * shape.layers, [&](std::size_t task, unsigned) {
      const std::size_t number = task / shape.layers;
      const auto layer = static_cast<std::uint32_t>(task % shape.layers);
      const block::view& block = blocks[number];
      const std::size_t bytes = block.dimensions().tokens * row_bytes;
      const block::band_layer rows = block.layer(0, layer);
      for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
        std::memcpy(cache_.k(layer, head) + number * bytes, rows.k + head * bytes, bytes);
        std::memcpy(cache_.v(layer, head) + number * bytes, rows.v + head * bytes, bytes);
      }
    });
  }

  void measure_load(std::uint32_t tokens) {
    constexpr std::uint32_t block_tokens = 64;
    const auto document = some_document(tokens);
    std::vector<kernels::aligned_buffer> memory;
    std::vector<block::view> views;
    for (std::uint32_t i = 0; i < document.blocks(block_tokens); ++i) {
      const auto shape = document.block_shape(i, block_tokens);
      const std::vector<block::band_rows> bands{block::all_rows(shape)};
      memory.emplace_back(block::size_bytes(shape, bands));
      const std::span bytes(memory.back().data(), memory.back().size_bytes());
      value_of(block::write(bytes, {}, shape, bands, document.block_source(i, block_tokens)));
      views.push_back(value_of(block::view::parse(bytes)));
      value_of(views.back().verify_bands());
    }
    std::vector<engine::placed_block> placed;
    for (std::uint32_t i = 0; i < views.size(); ++i)
      placed.push_back({&views[i], 1, static_cast<std::int32_t>(100 + i * block_tokens), 1});
    const auto times = measure_beside(
        options_.rounds,
        [&] {
          cache_.truncate(0);
          value_of(engine::scatter_blocks(model_, cache_, placed));
        },
        [&] { copy_blocks(views); });
    const double gigabytes = static_cast<double>(document.allocated_bytes()) * 1e-9;
    add({.name = "engine: load " + std::to_string(tokens) + " tokens from blocks, Llama-3.2-1B",
         .operation = "rotate_scatter",
         .gb_per_s = gigabytes / times.seconds,
         .limit_name = "memcpy of the same pieces to the same places",
         .limit_gb_per_s = gigabytes / times.limit_seconds,
         .ratio = times.ratio,
         .tokens_per_s = tokens / times.seconds});
  }

  const engine_options& options_;
  engine::runner model_;
  engine::kv_cache cache_;
  engine::row_batch batch_;
  std::vector<float> logits_;
  report report_;
};

}  // namespace

report run_engine(const engine_options& options) {
  return engine_run(options).run();
}

}  // namespace weft::bench
