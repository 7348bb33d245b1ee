// The small models of tests/fixtures and prompts for them.
#pragma once

#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace weft::engine::test {

inline runner_options exact_options() {
  return {.threads = 2, .cache_dtype = kernels::dtype::f32, .products = arithmetic::f32};
}

inline runner load_fixture(const std::string& name, const runner_options& options = exact_options()) {
  auto loaded = runner::load(std::string(WEFT_SOURCE_DIR) + "/tests/fixtures/" + name, options);
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

inline runner load_recall(const runner_options& options) {
  auto loaded = runner::load(std::string(WEFT_SOURCE_DIR) + "/models/recall", options);
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

// Token ids that differ from seed to seed.
inline std::vector<token_id> some_tokens(std::size_t count, std::uint32_t seed, std::uint32_t vocab = 150) {
  std::vector<token_id> tokens;
  for (std::size_t i = 0; i < count; ++i) {
    seed = seed * 1664525U + 1013904223U;
    tokens.push_back(static_cast<token_id>((seed >> 8U) % vocab));
  }
  return tokens;
}

inline void add_rows(row_batch& batch, const std::vector<token_id>& tokens, std::int32_t position,
                     std::int32_t segment = 0, std::uint32_t cache = 0) {
  for (const token_id token : tokens)
    batch.add(token, position++, segment, cache);
}

// Logits of the wanted rows; the last row's where the batch asks for none.
inline std::vector<float> run(runner& model, row_batch batch, kv_cache& cache) {
  if (batch.logits_rows.empty()) batch.logits_rows.push_back(static_cast<std::uint32_t>(batch.size() - 1));
  std::vector<float> logits(batch.logits_rows.size() * model.config().vocab_size);
  kv_cache* const caches[] = {&cache};
  const auto done = model.forward(batch, caches, logits);
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
  return logits;
}

// Infinite where one of them is not a number.
inline float distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (std::isnan(difference)) return std::numeric_limits<float>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

// Every row of two caches, bit for bit.
inline bool same_rows(kv_cache& a, kv_cache& b) {
  const kv_shape& shape = a.shape();
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const std::uint32_t rows = a.rows(layer, head);
      if (rows != b.rows(layer, head) ||
          std::memcmp(a.k(layer, head), b.k(layer, head), rows * row_bytes) != 0 ||
          std::memcmp(a.v(layer, head), b.v(layer, head), rows * row_bytes) != 0 ||
          !std::equal(a.positions(layer, head), a.positions(layer, head) + rows, b.positions(layer, head)) ||
          !std::equal(a.segments(layer, head), a.segments(layer, head) + rows, b.segments(layer, head)))
        return false;
    }
  return true;
}

}  // namespace weft::engine::test
