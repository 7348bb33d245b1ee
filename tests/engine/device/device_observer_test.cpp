// What observers are shown by a pass on a device, and what they add to it.
#include <weft/kernels/convert.hpp>

#include "../small_models.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

using namespace weft::engine;
using namespace weft::engine::test;
using weft::kernels::dtype;

namespace {

// Everything, one after the other.
struct record final : forward_observer {
  explicit record(const runner& model)
      : hidden(model.config().hidden_size),
        keys(std::size_t{model.config().kv_heads} * model.config().head_dim),
        queries(std::size_t{model.config().query_heads} * model.config().head_dim) {}

  void layer_input(std::uint32_t, std::uint32_t, std::uint32_t rows, const float* normed) override {
    inputs.insert(inputs.end(), normed, normed + rows * hidden);
  }
  void layer_kv(std::uint32_t, std::uint32_t, std::uint32_t rows, const std::byte* k,
                const std::byte* v) override {
    for (const auto* const part : {k, v}) {
      const std::size_t at = kv.size();
      kv.resize(at + rows * keys);
      weft::kernels::to_f32(dtype::f16, part, kv.data() + at, rows * keys);
    }
  }
  void layer_queries(std::uint32_t, std::uint32_t, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    for (std::uint32_t row = 0; row < rows; ++row)
      q_rotated.insert(q_rotated.end(), q + row * row_stride, q + row * row_stride + queries);
  }
  bool wants_queries_ahead() const override { return true; }
  void queries_ahead(std::uint32_t, std::uint32_t, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    for (std::uint32_t row = 0; row < rows; ++row)
      q_ahead.insert(q_ahead.end(), q + row * row_stride, q + row * row_stride + queries);
  }

  std::size_t hidden, keys, queries;
  std::vector<float> inputs, kv, q_rotated, q_ahead;
};

// A document's rows that are seen besides those of the cache.
struct rows_elsewhere final : forward_observer {
  explicit rows_elsewhere(const kv_cache& document) : rows(document) {}

  std::span<const weft::kernels::kv_run> more_rows(std::uint32_t layer, const kv_cache&,
                                                   std::uint32_t kv_head) override {
    run = rows.run(layer, kv_head);
    return {&run, 1};
  }
  std::span<const weft::kernels::prefill_kv_head> next_part(std::uint32_t layer, const kv_cache&) override {
    if (layer < next_layer) return {};
    next_layer = layer + 1;
    part.clear();
    for (std::uint32_t head = 0; head < rows.shape().kv_heads; ++head) {
      const auto whole = rows.run(layer, head);
      part.push_back({.k = whole.k,
                      .v = whole.v,
                      .rows = whole.rows,
                      .positions = rows.positions(layer, head),
                      .segments = rows.segments(layer, head)});
    }
    return part;
  }

  const kv_cache& rows;
  weft::kernels::kv_run run;
  std::vector<weft::kernels::prefill_kv_head> part;
  std::uint32_t next_layer = 0;
};

// Forgets a row of one head in the middle of the pass.
struct forgetful final : forward_observer {
  explicit forgetful(kv_cache& c) : cache(c) {}
  void layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t, const float*, std::size_t) override {
    if (layer != 1) return;
    std::fill_n(cache.k(1, 0), cache.shape().row_bytes(), std::byte{0});
    std::fill_n(cache.v(1, 0), cache.shape().row_bytes(), std::byte{0});
  }
  kv_cache& cache;
};

std::vector<float> observed(runner& model, const row_batch& batch, kv_cache& cache, forward_observer* by) {
  row_batch wanted = batch;
  wanted.logits_rows = {static_cast<std::uint32_t>(batch.size() - 1)};
  std::vector<float> logits(model.config().vocab_size);
  kv_cache* const caches[] = {&cache};
  const auto done = model.forward(wanted, caches, logits, by);
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
  return logits;
}

constexpr float tolerance = 2e-2F;

}  // namespace

TEST_CASE("observers see on a device what they see on the CPU") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("qwen3", options_on(nullptr));
  auto there = load_fixture("qwen3", options_on(device_under_test()));
  kv_cache a(cpu.cache_shape(), 64);
  kv_cache b(cpu.cache_shape(), 64);
  row_batch prompt;
  add_rows(prompt, some_tokens(20, 1), 0);
  row_batch step;
  step.add(4, 20, 0);
  for (const auto* const batch : {&prompt, &step}) {
    record here(cpu), on_device(there);
    CHECK(distance(observed(cpu, *batch, a, &here), observed(there, *batch, b, &on_device)) <= tolerance);
    CHECK(distance(here.inputs, on_device.inputs) <= tolerance);
    CHECK(distance(here.kv, on_device.kv) <= tolerance);
    CHECK(distance(here.q_rotated, on_device.q_rotated) <= tolerance);
    CHECK(distance(here.q_ahead, on_device.q_ahead) <= tolerance);
    CHECK(here.q_ahead.empty() == (batch == &prompt));
  }
}

TEST_CASE("rows that lie elsewhere are attended to on a device") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_on(nullptr));
  auto there = load_fixture("llama", options_on(device_under_test()));
  kv_cache document(cpu.cache_shape(), 64);
  row_batch rows;
  add_rows(rows, some_tokens(30, 2), 0, 1);
  observed(cpu, rows, document, nullptr);
  kv_cache a(cpu.cache_shape(), 64);
  kv_cache b(cpu.cache_shape(), 64);
  kv_cache without(cpu.cache_shape(), 64);
  row_batch question;
  add_rows(question, some_tokens(6, 3), 30);
  row_batch step;
  step.add(5, 36, 0);
  for (const auto* const batch : {&question, &step}) {
    rows_elsewhere here(document), on_device(document);
    const auto expected = observed(cpu, *batch, a, &here);
    CHECK(distance(expected, observed(there, *batch, b, &on_device)) <= tolerance);
    CHECK(distance(expected, observed(cpu, *batch, without, nullptr)) > tolerance);
  }
}

TEST_CASE("what an observer does to a cache, the layer's attention on a device sees") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_on(nullptr));
  auto there = load_fixture("llama", options_on(device_under_test()));
  row_batch prompt;
  add_rows(prompt, some_tokens(8, 4), 0);
  kv_cache a(cpu.cache_shape(), 64);
  kv_cache b(cpu.cache_shape(), 64);
  kv_cache c(cpu.cache_shape(), 64);
  forgetful here(a), on_device(b);
  const auto expected = observed(cpu, prompt, a, &here);
  CHECK(distance(expected, observed(there, prompt, b, &on_device)) <= tolerance);
  CHECK(distance(expected, observed(there, prompt, c, nullptr)) > 1e-3F);
}
