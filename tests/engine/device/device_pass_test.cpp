// The forward pass on a device against the CPU's, over everything that can be asked of a runner.
#include <weft/engine/compressed_cache.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/row_codec.hpp>
#include <weft/policies/budget.hpp>

#include "../small_models.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

#include <algorithm>
#include <memory>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::kernels::dtype;

namespace {

constexpr std::uint32_t room = 128;

// Queries that meet f16 rows on tensor cores are rounded to f16; everything else is f32.
float tolerance(dtype cache) {
  return cache == dtype::f32 ? 1e-3F : 2e-2F;
}

// The same model on the CPU and on a device, each with caches of its own.
struct twins {
  explicit twins(const std::string& name, dtype cache = dtype::f32)
      : type(cache),
        cpu(load_fixture(name, options_on(nullptr, cache))),
        there(load_fixture(name, options_on(device_under_test(), cache))) {}

  kv_cache cache(std::uint32_t rows = room) const { return {cpu.cache_shape(), rows}; }

  void check_same(const row_batch& batch, kv_cache& here, kv_cache& on_device) {
    CHECK(distance(run(cpu, batch, here), run(there, batch, on_device)) <= tolerance(type));
    check_caches(here, on_device);
  }

  // The same rows, with values that differ in their last digits at most.
  void check_caches(const kv_cache& a, const kv_cache& b) const {
    const kv_shape& shape = a.shape();
    std::vector<float> left(shape.head_dim), right(shape.head_dim);
    float largest = 0;
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
      for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
        const std::uint32_t rows = a.rows(layer, head);
        REQUIRE(rows == b.rows(layer, head));
        CHECK(
            std::equal(a.positions(layer, head), a.positions(layer, head) + rows, b.positions(layer, head)));
        CHECK(std::equal(a.segments(layer, head), a.segments(layer, head) + rows, b.segments(layer, head)));
        if (shape.coding != weft::kernels::row_codec::raw) continue;
        for (std::uint32_t row = 0; row < rows; ++row)
          for (const bool values : {false, true}) {
            const auto of = [&](const kv_cache& c) {
              return (values ? c.v(layer, head) : c.k(layer, head)) + row * shape.row_bytes();
            };
            weft::kernels::to_f32(shape.dtype, of(a), left.data(), shape.head_dim);
            weft::kernels::to_f32(shape.dtype, of(b), right.data(), shape.head_dim);
            largest = std::max(largest, distance(left, right));
          }
      }
    CHECK(largest <= tolerance(type));
  }

  dtype type;
  runner cpu, there;
};

row_batch prompt_of(const std::vector<token_id>& tokens, std::int32_t position = 0,
                    std::int32_t segment = 0) {
  row_batch batch;
  add_rows(batch, tokens, position, segment);
  return batch;
}

row_batch wants_all(row_batch batch) {
  for (std::uint32_t row = 0; row < batch.size(); ++row)
    batch.logits_rows.push_back(row);
  return batch;
}

}  // namespace

TEST_CASE("prompts and steps on a device give the CPU's logits and rows") {
  if (!device_under_test()) return;
  for (const std::string name : {"llama", "llama_tied", "llama_linear", "qwen2", "qwen3"})
    for (const auto type : {dtype::f32, dtype::f16}) {
      CAPTURE(name);
      twins t(name, type);
      auto here = t.cache();
      auto there = t.cache();
      t.check_same(wants_all(prompt_of(some_tokens(40, 1))), here, there);
      for (std::int32_t step = 0; step < 3; ++step)
        t.check_same(prompt_of({step + 7}, 40 + step), here, there);
    }
}

TEST_CASE("a device rounds to the weights' type where products need not be f32") {
  if (!device_under_test()) return;
  for (const std::string name : {"llama_tied", "qwen2"}) {
    CAPTURE(name);
    auto cpu = load_fixture(name, {.threads = 1});
    auto there = load_fixture(name, {.threads = 1, .device = device_under_test()});
    kv_cache a(cpu.cache_shape(), room);
    kv_cache b(cpu.cache_shape(), room);
    const auto expected = run(cpu, prompt_of(some_tokens(40, 2)), a);
    const float largest = *std::ranges::max_element(expected);
    CHECK(distance(expected, run(there, prompt_of(some_tokens(40, 2)), b)) <= 0.05F * largest);
  }
}

TEST_CASE("segments, rows in the middle and rows that are replaced, on a device") {
  if (!device_under_test()) return;
  for (const auto type : {dtype::f32, dtype::f16}) {
    twins t("llama", type);
    auto here = t.cache();
    auto there = t.cache();
    auto documents = prompt_of(some_tokens(20, 3), 5, 1);
    add_rows(documents, some_tokens(12, 4), 30, 2);
    t.check_same(documents, here, there);
    auto around = prompt_of(some_tokens(5, 5));
    add_rows(around, some_tokens(3, 6), 25);
    add_rows(around, some_tokens(6, 7), 42);
    t.check_same(wants_all(around), here, there);
    t.check_same(prompt_of(some_tokens(10, 8), 38), here, there);  // some are there, others are behind
    t.check_same(prompt_of({9}, 48), here, there);
    t.check_same(prompt_of({11}, 33, 2), here, there);  // one row, and no decode step
  }
}

TEST_CASE("a device learns what was done to a cache between passes") {
  if (!device_under_test()) return;
  twins t("qwen3", dtype::f16);
  auto here = t.cache();
  auto there = t.cache();
  t.check_same(prompt_of(some_tokens(30, 9)), here, there);
  for (auto* cache : {&here, &there})
    cache->truncate(25);
  t.check_same(prompt_of(some_tokens(4, 10), 25), here, there);
  for (auto* cache : {&here, &there}) {
    cache->set_rows(0, 0, 12);  // the newest rows of one head are forgotten
    std::swap_ranges(cache->v(1, 0), cache->v(1, 0) + cache->shape().row_bytes(),
                     cache->v(1, 0) + cache->shape().row_bytes());
  }
  const row_batch step = prompt_of({5}, 29);
  t.check_same(step, here, there);
  auto other = t.cache();
  t.check_same(prompt_of(some_tokens(30, 9)), here = t.cache(), other);
  CHECK(distance(run(t.there, prompt_of({5}, 30), there), run(t.there, prompt_of({5}, 30), other)) > 1e-3F);
}

TEST_CASE("several sessions step together on a device") {
  if (!device_under_test()) return;
  for (const auto type : {dtype::f32, dtype::f16}) {
    twins t("qwen2", type);
    std::vector<kv_cache> here, there;
    for (std::uint32_t i = 0; i < 3; ++i) {
      here.push_back(t.cache());
      there.push_back(t.cache());
      t.check_same(prompt_of(some_tokens(5 + 20 * i, i)), here[i], there[i]);
    }
    row_batch step;
    for (std::uint32_t i = 0; i < 3; ++i) {
      step.add(7, static_cast<std::int32_t>(5 + 20 * i), 0, i);
      step.logits_rows.push_back(i);
    }
    kv_cache* const caches_here[] = {&here[0], &here[1], &here[2]};
    kv_cache* const caches_there[] = {&there[0], &there[1], &there[2]};
    std::vector<float> expected(3 * t.cpu.config().vocab_size), found(expected.size());
    REQUIRE(t.cpu.forward(step, caches_here, expected));
    REQUIRE(t.there.forward(step, caches_there, found));
    CHECK(distance(expected, found) <= tolerance(type));
    row_batch prompts;
    add_rows(prompts, some_tokens(9, 11), 80, 0, 2);
    add_rows(prompts, some_tokens(4, 12), 80, 0, 0);
    prompts.logits_rows = {3, 8, 12};
    REQUIRE(t.cpu.forward(prompts, caches_here, expected));
    REQUIRE(t.there.forward(prompts, caches_there, found));
    CHECK(distance(expected, found) <= tolerance(type));
    for (std::size_t i = 0; i < 3; ++i)
      t.check_caches(here[i], there[i]);
  }
}

TEST_CASE("a long batch is computed in chunks on a device") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_on(nullptr));
  auto options = options_on(device_under_test());
  options.chunk_rows = 7;
  auto there = load_fixture("llama", options);
  kv_cache a(cpu.cache_shape(), room);
  kv_cache b(cpu.cache_shape(), room);
  const auto batch = wants_all(prompt_of(some_tokens(50, 13)));
  CHECK(distance(run(cpu, batch, a), run(there, batch, b)) <= tolerance(dtype::f16));
}

TEST_CASE("caches with a shared base, and rows in a codec, on a device") {
  if (!device_under_test()) return;
  for (const auto coding :
       {weft::kernels::row_codec::raw, weft::kernels::row_codec::int8, weft::kernels::row_codec::int4}) {
    twins t("llama", dtype::f16);
    auto whole = t.cache();
    run(t.cpu, prompt_of(some_tokens(40, 14), 0, 1), whole);
    const auto made = [&] {
      weft::policies::kept_rows kept({whole.shape().layers, whole.shape().kv_heads, 40});
      for (std::size_t i = 0; i < kept.kept.size(); ++i)
        kept.kept[i] = i % 3 != 0;
      auto copied = copy_kept_rows(whole, kept, 10, coding);
      REQUIRE_MESSAGE(copied.has_value(), copied.error().context);
      return std::move(*copied);
    };
    auto here = made();
    auto there = made();
    // A last digit can be another code.
    const float largest = coding == weft::kernels::row_codec::raw ? tolerance(t.type) : 0.05F;
    const auto near = [&](const row_batch& batch, kv_cache& a, kv_cache& b) {
      CHECK(distance(run(t.cpu, batch, a), run(t.there, batch, b)) <= largest);
    };
    near(prompt_of(some_tokens(4, 15), 40), here, there);
    near(prompt_of({3}, 44), here, there);
    near(prompt_of({4}, 45), here, there);
    const std::vector<std::uint32_t> tail(std::size_t{here.shape().layers} * here.shape().kv_heads, 20);
    const auto base_here = std::make_shared<const kv_cache>(std::move(here));
    const auto base_there = std::make_shared<const kv_cache>(std::move(there));
    for (std::uint32_t session = 0; session < 2; ++session) {
      kv_cache a(base_here, tail);
      kv_cache b(base_there, tail);
      near(prompt_of(some_tokens(5, 16 + session), 46), a, b);
      near(prompt_of({8}, 51), a, b);
    }
  }
}

TEST_CASE("rows that end halfway are chosen alike on a device") {
  if (!device_under_test()) return;
  twins t("llama");
  auto here = t.cache();
  auto there = t.cache();
  t.check_same(prompt_of(some_tokens(30, 18), 0, 1), here, there);
  auto batch = prompt_of(some_tokens(30, 19));
  batch.logits_rows = {29};
  const row_selection selection{.layer = 1, .rows = 6, .candidates = {2, 3, 5, 7, 11, 13, 17, 19, 23}};
  std::vector<float> expected(t.cpu.config().vocab_size), found(expected.size());
  const auto rows_here = t.cpu.forward_selected(batch, here, selection, expected);
  const auto rows_there = t.there.forward_selected(batch, there, selection, found);
  REQUIRE(rows_here);
  REQUIRE_MESSAGE(rows_there.has_value(), rows_there.error().context);
  CHECK(*rows_here == *rows_there);
  CHECK(distance(expected, found) <= tolerance(t.type));
  t.check_caches(here, there);
}

TEST_CASE("a device that has no room refuses, says how much there is, and changes nothing") {
  if (!device_under_test()) return;
  auto options = options_on(device_under_test());
  auto model = load_fixture("llama", options);
  const auto& memory = *options.device->memory;
  const auto free_bytes = memory.sizes().free_bytes;
  const auto share =
      static_cast<std::uint32_t>(free_bytes / model.cache_shape().layers / model.cache_shape().kv_heads /
                                 model.cache_shape().row_bytes() / 2);
  if (free_bytes > std::size_t{1} << 30U) return;  // the host has no cache that is too large for it
  kv_cache large(model.cache_shape(), share + 1000);
  kv_cache* const caches[] = {&large};
  const auto refused = model.forward(prompt_of(some_tokens(3, 20)), caches, {});
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::out_of_space);
  CHECK_MESSAGE(refused.error().context.find("are free on") != std::string::npos, refused.error().context);
  CHECK(large.rows(0, 0) == 0);
  kv_cache small(model.cache_shape(), room);
  CHECK(run(model, prompt_of(some_tokens(3, 20)), small).size() == model.config().vocab_size);
}

TEST_CASE("a session's device memory goes with its cache") {
  if (!device_under_test()) return;
  auto options = options_on(device_under_test());
  auto model = load_fixture("llama", options);
  kv_cache first(model.cache_shape(), room);
  run(model, prompt_of(some_tokens(3, 21)), first);
  run(model, prompt_of({1}, 3), first);
  // CUDA takes memory by 2 MiB, and some for itself.
  constexpr std::size_t least_bytes = std::size_t{64} << 20U;
  const std::size_t row_bytes = std::size_t{2} * model.cache_shape().layers * model.cache_shape().kv_heads *
                                model.cache_shape().row_bytes();
  const auto rows = static_cast<std::uint32_t>(least_bytes / row_bytes);
  const auto free_bytes = [&] { return options.device->memory->sizes().free_bytes; };
  const auto before = free_bytes();
  {
    kv_cache second(model.cache_shape(), rows);
    run(model, prompt_of(some_tokens(3, 21)), second);
    kv_cache moved = std::move(second);
    run(model, prompt_of({1}, 3), moved);
    CHECK(free_bytes() + least_bytes / 2 < before);
  }
  CHECK(free_bytes() + least_bytes / 2 > before);
}
