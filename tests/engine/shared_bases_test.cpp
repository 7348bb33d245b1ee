#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/generation.hpp>
#include <weft/engine/shared_bases.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <cmath>

using namespace weft;
using namespace weft::engine;
using namespace weft::engine::test;
using weft::policies::decimal_ratio;

namespace {

constexpr std::uint32_t context_tokens = 90;
constexpr std::uint32_t tail_rows = 24;

// A context of which the rows that noise likes are kept: every head has another number of them.
kv_cache compressed_context(runner& model, std::uint32_t tail) {
  kv_cache full(model.cache_shape(), context_tokens);
  row_batch batch;
  add_rows(batch, some_tokens(context_tokens, 6), 0, 1);
  run(model, batch, full);
  const auto scores =
      policies::random_scores({model.config().layers, model.config().kv_heads, context_tokens}, 3);
  const auto kept = policies::keep_rows(scores, {.ratio = decimal_ratio::from(0.4).value()}).value();
  return copy_kept_rows(full, kept, tail).value();
}

std::vector<std::uint32_t> tails(const runner& model) {
  return std::vector<std::uint32_t>(std::size_t{model.config().layers} * model.config().kv_heads, tail_rows);
}

std::vector<float> ask(runner& model, kv_cache& cache, std::uint32_t seed) {
  row_batch batch;
  add_rows(batch, some_tokens(7, seed), context_tokens);
  return run(model, batch, cache);
}

std::vector<std::byte> bytes_of(const kv_cache& cache) {
  std::vector<std::byte> bytes;
  const std::size_t row_bytes = cache.shape().head_dim * kernels::size_bytes(cache.shape().dtype);
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head) {
      const auto* k = cache.k(layer, head);
      const auto* v = cache.v(layer, head);
      const std::size_t rows = cache.rows(layer, head);
      bytes.insert(bytes.end(), k, k + rows * row_bytes);
      bytes.insert(bytes.end(), v, v + rows * row_bytes);
    }
  return bytes;
}

bool close_to(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::fabs(a[i] - b[i]) < 2e-3F)) return false;
  return true;
}

std::shared_ptr<const kv_cache> some_base(const kv_shape& shape, std::uint32_t rows) {
  return std::make_shared<const kv_cache>(shape, rows);
}

}  // namespace

TEST_CASE("sessions on shared rows answer like sessions that own a copy, and leave them alone") {
  auto model = load_fixture("llama");
  const auto base = std::make_shared<const kv_cache>(compressed_context(model, 0));
  const auto before = bytes_of(*base);
  for (std::uint32_t number = 0; number < 5; ++number) {
    CAPTURE(number);
    kv_cache shared(base, tails(model));
    kv_cache own = compressed_context(model, tail_rows);
    CHECK(close_to(ask(model, shared, number), ask(model, own, number)));
    CHECK(shared.rows(0, 0) == 7);
    // Decode steps: one row at a time.
    for (std::uint32_t step = 0; step < 8; ++step) {
      row_batch batch;
      add_rows(batch, some_tokens(1, 50 + step), static_cast<std::int32_t>(context_tokens + 7 + step));
      CHECK(close_to(run(model, batch, shared), run(model, batch, own)));
    }
  }
  CHECK(bytes_of(*base) == before);
}

TEST_CASE("a hundred sessions on one document allocate it once, and a tail each") {
  auto model = load_fixture("llama");
  const auto base = std::make_shared<const kv_cache>(compressed_context(model, 0));
  const auto one_tail = kv_cache(model.cache_shape(), tails(model)).allocated_bytes();
  std::vector<kv_cache> sessions;
  std::size_t allocated = base->allocated_bytes();
  for (std::uint32_t number = 0; number < 100; ++number) {
    sessions.emplace_back(base, tails(model));
    ask(model, sessions.back(), number);
    allocated += sessions.back().allocated_bytes();
  }
  CHECK(allocated <= base->allocated_bytes() + 100 * one_tail);
  CHECK(base.use_count() == 101);
}

TEST_CASE("rows that a session has on top are forgotten without the shared ones") {
  auto model = load_fixture("llama");
  const auto base = std::make_shared<const kv_cache>(compressed_context(model, 0));
  kv_cache session(base, tails(model));
  const auto first = ask(model, session, 4);
  ask(model, session, 9);  // overwrites the question at the same positions
  session.truncate(context_tokens);
  CHECK(session.rows(0, 0) == 0);
  CHECK(ask(model, session, 4) == first);
}

TEST_CASE("bases that nobody uses stay within their memory, the latest ones") {
  const kv_shape shape{.layers = 1, .kv_heads = 1, .head_dim = 8};
  const auto one = some_base(shape, 64)->allocated_bytes();
  shared_bases bases(2 * one);
  for (std::uint64_t key = 1; key <= 4; ++key)
    bases.insert({0, key}, some_base(shape, 64));
  CHECK(bases.size() == 2);
  CHECK(bases.allocated_bytes() == 2 * one);
  CHECK(bases.find({0, 2}) == nullptr);
  CHECK(bases.find({0, 3}) != nullptr);  // a use: 4 is now the older one

  const auto used = bases.find({0, 3});
  bases.insert({0, 5}, some_base(shape, 64));
  bases.insert({0, 6}, some_base(shape, 64));
  CHECK(bases.find({0, 4}) == nullptr);
  CHECK(bases.find({0, 3}) == used);  // not idle, so it counts against nothing
  CHECK(bases.size() == 3);
}

TEST_CASE("what several bases stand behind counts once, and stays as long as one of them") {
  const kv_shape shape{.layers = 1, .kv_heads = 1, .head_dim = 8};
  const auto one = some_base(shape, 64)->allocated_bytes();
  const std::vector<std::uint32_t> capacity{64};
  const auto behind = [&](std::shared_ptr<const kv_cache> front) {
    return std::make_shared<const kv_cache>(std::move(front), shape, capacity);
  };
  shared_bases bases(3 * one);
  auto front = some_base(shape, 64);
  bases.insert({0, 1}, front);
  bases.insert({0, 2}, behind(front));
  bases.insert({0, 3}, behind(front));
  front.reset();
  bases.tidy();
  CHECK(bases.size() == 3);
  CHECK(bases.allocated_bytes() == 3 * one);

  bases.insert({0, 4}, some_base(shape, 64));  // the oldest that nobody stands behind makes room
  CHECK(bases.find({0, 2}) == nullptr);
  CHECK(bases.find({0, 1}) != nullptr);
  bases.insert({0, 5}, some_base(shape, 64));
  bases.insert({0, 6}, some_base(shape, 64));
  CHECK(bases.find({0, 3}) == nullptr);
  CHECK(bases.find({0, 4}) == nullptr);
  CHECK(bases.find({0, 1}) != nullptr);  // asked for later than those that stood behind it
  CHECK(bases.size() == 3);
}

TEST_CASE("with no memory for idle ones a base lives by its users") {
  const kv_shape shape{.layers = 1, .kv_heads = 1, .head_dim = 8};
  shared_bases bases(0);
  auto base = some_base(shape, 64);
  bases.insert({0, 1}, base);
  CHECK(bases.find({0, 1}) == base);
  bases.tidy();
  CHECK(bases.size() == 1);
  base.reset();
  bases.tidy();
  CHECK(bases.size() == 0);
}

TEST_CASE("idle bases can be dropped one by one, used ones cannot") {
  const kv_shape shape{.layers = 1, .kv_heads = 1, .head_dim = 8};
  shared_bases bases(1 << 20);
  for (std::uint64_t key = 1; key <= 3; ++key)
    bases.insert({0, key}, some_base(shape, 64));
  const auto used = bases.find({0, 1});
  CHECK(bases.drop_idle());
  CHECK(bases.find({0, 2}) == nullptr);
  CHECK(bases.drop_idle());
  CHECK(bases.find({0, 3}) == nullptr);
  CHECK(!bases.drop_idle());
  CHECK(bases.find({0, 1}) == used);
}
