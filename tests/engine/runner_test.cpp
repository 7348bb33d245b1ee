#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <algorithm>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

namespace {

constexpr std::uint32_t room = 128;

// More than the rounding of f32 sums, less than any row that is masked, rotated or placed wrongly.
constexpr float exact = 1e-3F;

std::vector<float> logits_at_once(runner& model, const std::vector<token_id>& tokens) {
  kv_cache cache(model.cache_shape(), room);
  row_batch batch;
  add_rows(batch, tokens, 0);
  for (std::uint32_t row = 0; row < tokens.size(); ++row)
    batch.logits_rows.push_back(row);
  return run(model, batch, cache);
}

}  // namespace

TEST_CASE("token by token gives the logits of a prefill") {
  for (const std::string name : {"llama", "qwen2", "qwen3"}) {
    CAPTURE(name);
    auto model = load_fixture(name);
    const auto tokens = some_tokens(40, 1);
    const auto expected = logits_at_once(model, tokens);
    kv_cache cache(model.cache_shape(), room);
    std::vector<float> stepwise;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      row_batch step;
      step.add(tokens[i], static_cast<std::int32_t>(i), 0);
      const auto logits = run(model, step, cache);
      stepwise.insert(stepwise.end(), logits.begin(), logits.end());
    }
    CHECK(distance(stepwise, expected) <= exact);
  }
}

TEST_CASE("a long batch is computed in chunks") {
  const auto tokens = some_tokens(50, 2);
  auto whole = load_fixture("llama");
  auto options = exact_options();
  options.chunk_rows = 7;
  auto chunked = load_fixture("llama", options);
  CHECK(distance(logits_at_once(chunked, tokens), logits_at_once(whole, tokens)) <= exact);
}

TEST_CASE("only the wanted rows get logits, the same as among all") {
  auto model = load_fixture("qwen3");
  const auto tokens = some_tokens(30, 3);
  const auto all = logits_at_once(model, tokens);
  kv_cache cache(model.cache_shape(), room);
  row_batch batch;
  add_rows(batch, tokens, 0);
  batch.logits_rows = {4, 17, 29};
  const auto some = run(model, batch, cache);
  const std::size_t vocab = model.config().vocab_size;
  std::vector<float> expected;
  for (const auto row : batch.logits_rows)
    expected.insert(expected.end(), all.begin() + static_cast<std::ptrdiff_t>(row * vocab),
                    all.begin() + static_cast<std::ptrdiff_t>((row + 1) * vocab));
  CHECK(distance(some, expected) <= exact);
}

TEST_CASE("rows in the middle are inserted where they belong") {
  auto model = load_fixture("llama");
  const auto opening = some_tokens(5, 4);
  const auto document = some_tokens(20, 5);
  const auto links = some_tokens(3, 6);
  const auto question = some_tokens(6, 7);

  kv_cache in_order(model.cache_shape(), room);
  row_batch all;
  add_rows(all, opening, 0);
  add_rows(all, document, 5, 1);
  add_rows(all, links, 25);
  add_rows(all, question, 28);
  const auto expected = run(model, all, in_order);

  kv_cache late(model.cache_shape(), room);
  row_batch first;
  add_rows(first, document, 5, 1);
  run(model, first, late);
  row_batch then;
  add_rows(then, opening, 0);
  add_rows(then, links, 25);
  add_rows(then, question, 28);
  CHECK(distance(run(model, then, late), expected) <= exact);
  CHECK(late.rows(0, 0) == 34);
  CHECK(std::is_sorted(late.positions(1, 0), late.positions(1, 0) + 34));
}

TEST_CASE("a row at an existing position replaces it") {
  auto model = load_fixture("llama");
  auto tokens = some_tokens(24, 8);
  kv_cache cache(model.cache_shape(), room);
  row_batch batch;
  add_rows(batch, tokens, 0);
  run(model, batch, cache);

  tokens[10] = (tokens[10] + 1) % 150;
  row_batch again;
  add_rows(again, {tokens.begin() + 10, tokens.end()}, 10);
  const auto replaced = run(model, again, cache);
  CHECK(cache.rows(0, 0) == 24);

  kv_cache fresh(model.cache_shape(), room);
  row_batch changed;
  add_rows(changed, tokens, 0);
  CHECK(distance(replaced, run(model, changed, fresh)) <= exact);
}

TEST_CASE("heads may have different rows, each head attends to its own") {
  auto model = load_fixture("llama");
  const auto tokens = some_tokens(20, 9);
  kv_cache ragged(model.cache_shape(), room);
  row_batch batch;
  add_rows(batch, tokens, 0);
  run(model, batch, ragged);
  ragged.set_rows(0, 0, 12);  // forgets the newest rows of one head only
  row_batch next;
  next.add(5, 20, 0);
  const auto with_less = run(model, next, ragged);
  CHECK(ragged.rows(0, 0) == 13);
  CHECK(ragged.rows(0, 1) == 21);

  kv_cache full(model.cache_shape(), room);
  run(model, batch, full);
  CHECK(distance(with_less, run(model, next, full)) > exact);

  // The same through the kernel for many rows.
  kv_cache again(model.cache_shape(), room);
  run(model, batch, again);
  again.set_rows(0, 0, 12);
  row_batch two;
  two.add(5, 20, 0);
  two.add(6, 21, 0);
  two.logits_rows = {0, 1};
  auto both = run(model, two, again);
  both.resize(model.config().vocab_size);
  CHECK(distance(both, with_less) <= exact);
}

TEST_CASE("a session's logits do not depend on who else decodes, bit for bit") {
  for (const auto products : {arithmetic::f32, arithmetic::automatic}) {
    auto model = load_recall({.threads = 2, .products = products});
    std::vector<kv_cache> alone;
    std::vector<kv_cache> together;
    std::vector<float> expected;
    row_batch step;
    for (std::uint32_t i = 0; i < 5; ++i) {
      row_batch prompt;
      add_rows(prompt, some_tokens(10 + 30 * i, i, 1000), 0);
      for (auto* caches : {&alone, &together}) {
        caches->emplace_back(model.cache_shape(), 256U);
        run(model, prompt, caches->back());
      }
      row_batch own;
      own.add(7, static_cast<std::int32_t>(prompt.size()), 0);
      const auto logits = run(model, own, alone.back());
      expected.insert(expected.end(), logits.begin(), logits.end());
      step.add(7, static_cast<std::int32_t>(prompt.size()), 0, i);
      step.logits_rows.push_back(i);
    }
    std::vector<kv_cache*> caches;
    for (auto& cache : together)
      caches.push_back(&cache);
    std::vector<float> logits(expected.size());
    REQUIRE(model.forward(step, caches, logits));
    CHECK(logits == expected);
    for (std::size_t i = 0; i < alone.size(); ++i)
      CHECK(same_rows(alone[i], together[i]));
  }
}

TEST_CASE("several prompts in one batch are computed as if alone") {
  auto model = load_fixture("qwen2");
  std::vector<kv_cache> caches;
  row_batch both;
  std::vector<float> expected;
  for (std::uint32_t i = 0; i < 2; ++i) {
    const auto tokens = some_tokens(12 + i, 20 + i);
    kv_cache cache(model.cache_shape(), room);
    row_batch own;
    add_rows(own, tokens, 0);
    const auto logits = run(model, own, cache);
    expected.insert(expected.end(), logits.begin(), logits.end());
    add_rows(both, tokens, 0, 0, i);
    both.logits_rows.push_back(static_cast<std::uint32_t>(both.size() - 1));
    caches.emplace_back(model.cache_shape(), room);
  }
  kv_cache* const pointers[] = {&caches[0], &caches[1]};
  std::vector<float> logits(expected.size());
  REQUIRE(model.forward(both, pointers, logits));
  CHECK(distance(logits, expected) <= exact);
}

TEST_CASE("a full cache is refused before anything changes") {
  auto model = load_fixture("llama");
  kv_cache cache(model.cache_shape(), 16);
  kv_cache untouched(model.cache_shape(), 16);
  row_batch prompt;
  add_rows(prompt, some_tokens(10, 30), 0);
  run(model, prompt, cache);
  run(model, prompt, untouched);
  row_batch more;
  add_rows(more, some_tokens(7, 31), 10);
  kv_cache* const caches[] = {&cache};
  const auto refused = model.forward(more, caches, {});
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::out_of_space);
  CHECK(same_rows(cache, untouched));
  row_batch overwriting;
  add_rows(overwriting, some_tokens(7, 31), 9);  // six new rows and one that is there
  CHECK(model.forward(overwriting, caches, {}));
  CHECK(cache.rows(0, 0) == 16);
}

TEST_CASE("a batch that contradicts itself is refused") {
  auto model = load_fixture("llama");
  kv_cache cache(model.cache_shape(), 16);
  kv_cache* const caches[] = {&cache};
  const auto code_of = [&](const row_batch& batch) {
    const auto done = model.forward(batch, caches, {});
    return done ? errc::ok : done.error().code;
  };
  row_batch good;
  good.add(1, 0, 0);
  CHECK(code_of(good) == errc::ok);
  for (const auto spoil :
       {+[](row_batch& b) { b.tokens[0] = -1; }, +[](row_batch& b) { b.tokens[0] = 1 << 20; },
        +[](row_batch& b) { b.positions[0] = -1; }, +[](row_batch& b) { b.caches[0] = 1; },
        +[](row_batch& b) { b.segments.clear(); }, +[](row_batch& b) { b.logits_rows = {1}; },
        +[](row_batch& b) { b.logits_rows = {0}; }, +[](row_batch& b) { b.add(1, 0, 0); }}) {
    row_batch bad = good;
    spoil(bad);
    CHECK(code_of(bad) == errc::invalid_argument);
  }
  CHECK(cache.rows(0, 0) == 1);
  auto other_shape = model.cache_shape();
  other_shape.dtype = weft::kernels::dtype::bf16;
  kv_cache foreign(other_shape, 16);
  kv_cache* const foreigners[] = {&foreign};
  CHECK(model.forward(good, foreigners, {}).error().code == errc::invalid_argument);
}

TEST_CASE("bf16 arithmetic stays near f32") {
  const auto tokens = some_tokens(100, 40, 1000);
  auto narrow = load_recall({.threads = 2});
  auto wide = load_recall(exact_options());
  CHECK(narrow.cache_shape().dtype == weft::kernels::dtype::bf16);
  const auto expected = logits_at_once(wide, tokens);
  const float largest = *std::ranges::max_element(expected);
  CHECK(largest > 5);
  CHECK(distance(logits_at_once(narrow, tokens), expected) < 0.1F * largest);
}

TEST_CASE("random weights depend on their seed only") {
  model_config config;
  config.layers = 2;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.query_heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 200;
  config.max_context_tokens = 256;
  config.tied_embeddings = true;
  const auto tokens = some_tokens(20, 50);
  const auto logits_of = [&](std::uint64_t seed) {
    auto model = runner::with_random_weights(config, {.threads = 2}, seed);
    REQUIRE(model);
    CHECK(model->cache_shape().dtype == weft::kernels::dtype::bf16);
    return logits_at_once(*model, tokens);
  };
  const auto once = logits_of(1);
  CHECK(logits_of(1) == once);
  CHECK(distance(logits_of(2), once) > 1e-3F);
}
