#include <weft/engine/adaptive/session.hpp>
#include <weft/engine/sampler.hpp>
#include <weft/policies/adaptive/atskv.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

using namespace weft::engine;
using namespace weft::engine::test;
namespace adaptive = weft::policies::adaptive;
using adaptive::method;

namespace {

constexpr std::uint32_t prompt_tokens = 120;

std::shared_ptr<const adaptive::relevance_predictor> by_attention(const model_config& config) {
  return std::make_shared<adaptive::relevance_predictor>(
      adaptive::attention_predictor(session_shape_of(config)));
}

std::unique_ptr<adaptive::cache_policy> policy_of(runner& model, method chosen, std::uint32_t rows,
                                                  bool passive = true) {
  const auto shape = session_shape_of(model.config());
  if (chosen == method::atskv) {
    auto made = adaptive::make_atskv(shape, {.rows = rows, .passive = passive}, by_attention(model.config()));
    REQUIRE_MESSAGE(made.has_value(), made.error().context);
    return std::move(*made);
  }
  auto made = adaptive::make_baseline(shape, {.chosen = chosen, .rows = rows});
  REQUIRE_MESSAGE(made.has_value(), made.error().context);
  return std::move(*made);
}

// A prompt in one cache, with what policies may ask of it.
struct whole_prompt {
  whole_prompt(runner& used, std::uint32_t room)
      : model(used),
        cache(used.cache_shape(), room),
        record(used, prompt_tokens, cache, {.all_sums = true, .hidden = true}),
        logits(used.config().vocab_size) {
    row_batch batch;
    add_rows(batch, some_tokens(prompt_tokens, 5), 0);
    batch.logits_rows = {prompt_tokens - 1};
    kv_cache* const caches[] = {&cache};
    const auto done = model.forward(batch, caches, logits, &record);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
  }

  runner& model;
  kv_cache cache;
  prompt_record record;
  std::vector<float> logits;
};

void start(adaptive_session& session, whole_prompt& prompt) {
  const auto started = session.start(prompt.cache, prompt.record, {});
  REQUIRE_MESSAGE(started.has_value(), started.error().context);
}

void step(adaptive_session& session, std::vector<float>& logits) {
  const auto done = session.step(greedy_token(logits), 0, logits);
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
}

// A store whose holder dies.
class dying_store final : public passive_store {
 public:
  bool dead = false;

  weft::result<void> put(std::uint64_t page, std::span<const std::byte> bytes) override {
    if (dead) return weft::fail(weft::errc::unreachable, "the holder is dead");
    return inner_.put(page, bytes);
  }
  void begin(std::span<const std::uint64_t> pages) override {
    lost_.assign(dead ? pages.size() : 0, {});
    if (!dead) inner_.begin(pages);
  }
  bool arrived() override { return true; }
  std::span<const page_bytes> wait() override { return lost_.empty() ? inner_.wait() : lost_; }

 private:
  local_passive_store inner_;
  std::vector<page_bytes> lost_;
};

// Every page comes back one byte short.
class shortening_store final : public passive_store {
 public:
  weft::result<void> put(std::uint64_t page, std::span<const std::byte> bytes) override {
    return inner_.put(page, bytes);
  }
  void begin(std::span<const std::uint64_t> pages) override { inner_.begin(pages); }
  bool arrived() override { return true; }
  std::span<const page_bytes> wait() override {
    const auto whole = inner_.wait();
    short_.assign(whole.begin(), whole.end());
    for (auto& page : short_)
      page = page.first(page.size() - 1);
    return short_;
  }

 private:
  local_passive_store inner_;
  std::vector<page_bytes> short_;
};

}  // namespace

TEST_CASE("a session that keeps everything generates what a plain cache does") {
  auto model = load_fixture("llama");
  whole_prompt prompt(model, prompt_tokens + 40);
  for (const method chosen : {method::full, method::quest, method::sliding_window}) {
    row_page_pool pool(model.cache_shape());
    // Budgets as large as the whole session: quest reads all pages.
    adaptive_session session(model, pool, policy_of(model, chosen, 400), nullptr);
    start(session, prompt);
    std::vector<float> logits = prompt.logits;
    std::vector<float> expected = prompt.logits;
    kv_cache* const caches[] = {&prompt.cache};
    for (std::int32_t i = 0; i < 30; ++i) {
      row_batch row;
      row.add(greedy_token(expected), static_cast<std::int32_t>(prompt_tokens) + i, 0);
      row.logits_rows = {0};
      REQUIRE(model.forward(row, caches, expected));
      step(session, logits);
      REQUIRE(distance(logits, expected) < 1e-4F);
    }
    prompt.cache.truncate(prompt_tokens);
    CHECK(session.resident_rows() == session.policy().resident(0).size() * 2 * model.config().layers);
  }
}

TEST_CASE("rows in the decode cache are those of their tokens, those that came back too") {
  auto model = load_fixture("llama");
  whole_prompt prompt(model, prompt_tokens + 300);
  row_page_pool pool(model.cache_shape(), 8);
  local_passive_store store;
  adaptive_session session(model, pool, policy_of(model, method::atskv, 40), &store);
  start(session, prompt);
  session.measure_attention(prompt.cache);
  std::vector<float> logits = prompt.logits;
  const auto& shape = model.cache_shape();
  const std::size_t row_bytes = shape.head_dim * weft::kernels::size_bytes(shape.dtype);
  for (int i = 0; i < 250; ++i) {
    step(session, logits);
    std::uint64_t rows = 0;
    for (std::uint32_t head = 0; head < shape.layers * shape.kv_heads; ++head)
      rows += session.policy().resident(head).size();
    REQUIRE(rows == session.resident_rows());
    REQUIRE(rows <= std::uint64_t{40} * shape.layers * shape.kv_heads);
    // What a step reads is what the pages hold.
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
      for (std::uint32_t h = 0; h < shape.kv_heads; ++h) {
        std::size_t slot = 0;
        const auto tokens = session.policy().resident(layer * shape.kv_heads + h);
        if (i % 50 != 49) break;
        std::vector<weft::kernels::kv_run> runs;
        session.rows_of(layer, h).add_runs(runs);
        for (const auto& run : runs)
          for (std::uint32_t row = 0; row < run.rows; ++row, ++slot)
            REQUIRE(std::memcmp(run.k + row * row_bytes, prompt.cache.k(layer, h) + tokens[slot] * row_bytes,
                                row_bytes) == 0);
        REQUIRE(slot == tokens.size());
      }
  }
  CHECK(session.counters().pages_stored > 0);
  CHECK(session.counters().promoted_rows > 0);
  CHECK(session.counters().pages_lost == 0);
  CHECK(session.recalled_attention() > 0.05);
  CHECK(session.recalled_attention() < 1.0001);
  CHECK(session.summary_bytes() > 0);
}

// Under the sanitizers a step takes long, and what they look for is in each of them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int many_tokens = 2'000;
#else
constexpr int many_tokens = 10'000;
#endif

TEST_CASE("memory is bounded over 10,000 generated tokens, and freed rows serve again") {
  auto model = load_fixture("llama");
  whole_prompt prompt(model, prompt_tokens);
  const std::size_t heads = std::size_t{model.config().layers} * model.config().kv_heads;
  constexpr std::uint32_t rows = 48;
  for (const auto& [chosen, passive] :
       {std::pair{method::streaming_llm, false}, std::pair{method::h2o, false},
        std::pair{method::tova, false}, std::pair{method::atskv, false}, std::pair{method::atskv, true}}) {
    row_page_pool pool(model.cache_shape(), 8);
    local_passive_store store;
    adaptive_session session(model, pool, policy_of(model, chosen, rows, passive), &store);
    start(session, prompt);
    std::vector<float> logits = prompt.logits;
    // A page of each head that is not full.
    const std::size_t most = heads * (rows + 1 + 7) * 2 * pool.row_bytes();
    std::size_t early = 0;
    for (int i = 0; i < many_tokens; ++i) {
      step(session, logits);
      REQUIRE(pool.used_bytes() <= most);
      if (i == 1000) early = pool.allocated_bytes() + (passive ? 0 : session.state_bytes());
    }
    CHECK(pool.allocated_bytes() + (passive ? 0 : session.state_bytes()) <= early + early / 4);
    CHECK(session.counters().removed_rows > many_tokens / 10 * 9 * heads);
    if (!passive) CHECK(store.stored_bytes() == 0);
  }
}

TEST_CASE("a store whose holder dies costs rows, not the session") {
  auto model = load_fixture("llama");
  whole_prompt prompt(model, prompt_tokens);
  row_page_pool pool(model.cache_shape(), 8);
  dying_store store;
  adaptive_session session(model, pool, policy_of(model, method::atskv, 40), &store);
  start(session, prompt);
  std::vector<float> logits = prompt.logits;
  for (int i = 0; i < 20; ++i)
    step(session, logits);
  CHECK(session.counters().pages_lost == 0);
  store.dead = true;
  for (int i = 0; i < 100; ++i)
    step(session, logits);
  CHECK(session.counters().pages_lost > 0);
  CHECK(session.counters().steps == 120);
  for (const float logit : logits)
    REQUIRE(std::isfinite(logit));
}

TEST_CASE("a page of another size than was stored is lost, and nothing of it is read") {
  auto model = load_fixture("llama");
  whole_prompt prompt(model, prompt_tokens);
  row_page_pool pool(model.cache_shape(), 8);
  shortening_store store;
  adaptive_session session(model, pool, policy_of(model, method::atskv, 40), &store);
  start(session, prompt);
  std::vector<float> logits = prompt.logits;
  for (int i = 0; i < 60; ++i)
    step(session, logits);
  CHECK(session.counters().pages_lost > 0);
  CHECK(session.counters().pages_promoted == 0);
}

TEST_CASE("what was not recorded of the prompt is refused by name") {
  auto model = load_fixture("llama");
  kv_cache cache(model.cache_shape(), 40);
  prompt_record record(model, 40, cache, {});
  row_batch batch;
  add_rows(batch, some_tokens(40, 5), 0);
  kv_cache* const caches[] = {&cache};
  REQUIRE(model.forward(batch, caches, {}, &record));
  row_page_pool pool(model.cache_shape());
  local_passive_store store;
  adaptive_session by_all(model, pool, policy_of(model, method::h2o, 10), nullptr);
  CHECK(by_all.start(cache, record, {}).error().context.find("all rows") != std::string::npos);
  adaptive_session by_hidden(model, pool, policy_of(model, method::atskv, 10), &store);
  CHECK(by_hidden.start(cache, record, {}).error().context.find("hidden") != std::string::npos);
  CHECK_THROWS(adaptive_session(model, pool, policy_of(model, method::atskv, 10), nullptr));
}
