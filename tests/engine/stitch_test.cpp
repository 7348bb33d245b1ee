#include <weft/engine/stitch.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "stored_document.hpp"

#include <algorithm>
#include <cstring>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::policies::plan_stitch;
using weft::policies::position_mode;
using weft::policies::prompt_document;
using weft::policies::stitch_plan;
using weft::policies::stitch_policy;

namespace {

constexpr std::uint32_t room = 512;
constexpr float exact = 1e-3F;

struct prompt {
  std::vector<token_id> opening = some_tokens(4, 1);
  std::vector<std::vector<token_id>> documents{some_tokens(70, 2), some_tokens(33, 3), some_tokens(64, 4)};
  std::vector<token_id> question = some_tokens(9, 5);
  std::vector<std::vector<token_id>> links = {};  // nothing, or a list behind every document
  std::vector<std::vector<token_id>> texts = {};  // nothing, or a list before every document and behind all

  stitch_plan plan(stitch_policy policy, std::vector<bool> stored = {true, true, true},
                   position_mode positions = position_mode::prompt) const {
    std::vector<prompt_document> parts;
    for (std::size_t i = 0; i < documents.size(); ++i)
      parts.push_back({documents[i], stored.empty() || stored[i]});
    auto made = plan_stitch(policy, {.opening = opening,
                                     .documents = parts,
                                     .question = question,
                                     .inserted = links,
                                     .texts = texts,
                                     .positions = positions});
    REQUIRE_MESSAGE(made.has_value(), made.error().context);
    return *made;
  }
};

// An ordinary prompt, and one with what is easily forgotten: the same document twice, nothing before the
// first.
std::vector<prompt> prompts() {
  prompt twice{.opening = {}, .documents = {some_tokens(33, 3), some_tokens(17, 9), some_tokens(33, 3)}};
  prompt mixed{.documents = twice.documents};
  mixed.texts = {some_tokens(11, 30), {}, some_tokens(5, 31), some_tokens(7, 32)};
  return {prompt{}, twice, mixed};
}

std::vector<float> stitched(runner& model, const prompt& text, const stitch_plan& plan, kv_cache& cache,
                            std::uint32_t block_tokens = 32) {
  std::vector<stored_document> stored;
  std::vector<document_blocks> blocks;
  for (std::size_t i = 0; i < plan.documents.size(); ++i) {
    const auto document = encode_document(model, text.documents[i]);
    REQUIRE(document);
    stored.emplace_back(*document, block_tokens);
    const bool load = plan.documents[i].source == weft::policies::document_source::load;
    blocks.push_back(load ? stored.back().blocks() : document_blocks{});
  }
  const auto loaded = load_documents(model, cache, plan, blocks);
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  std::vector<float> logits(model.config().vocab_size);
  const auto done = prefill(model, cache, plan, logits);
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
  CHECK(cache.rows(0, 0) == plan.prompt_tokens);
  return logits;
}

// One pass over all rows, documents in segments of their own or in segment 0.
row_batch whole_prompt(const prompt& text, bool masked) {
  row_batch batch;
  add_rows(batch, text.opening, 0);
  const auto add_text = [&](std::size_t place) {
    if (!text.texts.empty()) add_rows(batch, text.texts[place], static_cast<std::int32_t>(batch.size()));
  };
  for (std::size_t i = 0; i < text.documents.size(); ++i) {
    add_text(i);
    add_rows(batch, text.documents[i], static_cast<std::int32_t>(batch.size()),
             masked ? static_cast<std::int32_t>(i + 1) : 0);
    if (!text.links.empty()) add_rows(batch, text.links[i], static_cast<std::int32_t>(batch.size()));
  }
  add_text(text.documents.size());
  add_rows(batch, text.question, static_cast<std::int32_t>(batch.size()));
  return batch;
}

std::vector<float> computed_at_once(runner& model, const prompt& text, bool masked) {
  kv_cache cache(model.cache_shape(), room);
  return run(model, whole_prompt(text, masked), cache);
}

// Brute force: every row of the prompt is computed in every layer, and from a layer on, before anything
// attends, the K and V of some rows are those of a document that was encoded alone. In both caches row i
// stands at position i.
class put_back final : public forward_observer {
 public:
  put_back(kv_cache& from, kv_cache& into, std::vector<bool> rows, std::uint32_t first_layer)
      : from_(from), into_(into), rows_(std::move(rows)), first_layer_(first_layer) {}

  void layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t, const float*, std::size_t) override {
    if (layer < first_layer_) return;
    const kv_shape& shape = from_.shape();
    const std::size_t bytes = shape.head_dim * weft::kernels::size_bytes(shape.dtype);
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      for (std::size_t row = 0; row < rows_.size(); ++row) {
        if (!rows_[row]) continue;
        std::memcpy(into_.k(layer, head) + row * bytes, from_.k(layer, head) + row * bytes, bytes);
        std::memcpy(into_.v(layer, head) + row * bytes, from_.v(layer, head) + row * bytes, bytes);
      }
  }

 private:
  kv_cache& from_;
  kv_cache& into_;
  std::vector<bool> rows_;
  std::uint32_t first_layer_;
};

// Rows of documents by position in the prompt.
std::vector<bool> document_rows(const stitch_plan& plan) {
  std::vector<bool> rows(plan.prompt_tokens);
  for (const auto& document : plan.documents)
    std::fill_n(rows.begin() + document.start_position, document.tokens, true);
  return rows;
}

std::vector<float> with_reused_rows(runner& model, const prompt& text, const std::vector<bool>& reused,
                                    std::uint32_t first_layer) {
  kv_cache stored(model.cache_shape(), room);
  stitched(model, text, text.plan(stitch_policy::none, {}), stored);
  kv_cache cache(model.cache_shape(), room);
  put_back observer(stored, cache, reused, first_layer);
  row_batch batch = whole_prompt(text, false);
  batch.logits_rows = {static_cast<std::uint32_t>(batch.size() - 1)};
  std::vector<float> logits(model.config().vocab_size);
  kv_cache* const caches[] = {&cache};
  REQUIRE(model.forward(batch, caches, logits, &observer));
  return logits;
}

// The squared distance between the values of a layer in a causal prefill and in the documents alone, by row.
std::vector<double> value_changes(runner& model, const prompt& text, std::uint32_t layer) {
  kv_cache stored(model.cache_shape(), room);
  stitched(model, text, text.plan(stitch_policy::none, {}), stored);
  kv_cache causal(model.cache_shape(), room);
  run(model, whole_prompt(text, false), causal);
  const kv_shape shape = model.cache_shape();
  REQUIRE(shape.dtype == weft::kernels::dtype::f32);
  std::vector<double> changes(causal.rows(layer, 0));
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
    const auto* const a = reinterpret_cast<const float*>(causal.v(layer, head));
    const auto* const b = reinterpret_cast<const float*>(stored.v(layer, head));
    for (std::size_t i = 0; i < changes.size() * shape.head_dim; ++i)
      changes[i / shape.head_dim] += static_cast<double>(a[i] - b[i]) * (a[i] - b[i]);
  }
  return changes;
}

}  // namespace

TEST_CASE("stitched documents give the logits of a block-masked prefill") {
  for (const std::string name : {"llama", "llama_linear", "qwen2", "qwen3"}) {
    CAPTURE(name);
    auto model = load_fixture(name);
    const prompt text;
    kv_cache cache(model.cache_shape(), room);
    const auto logits = stitched(model, text, text.plan(stitch_policy::none), cache);
    CHECK(distance(logits, computed_at_once(model, text, true)) <= exact);
    CHECK(distance(logits, computed_at_once(model, text, false)) > exact);
  }
}

TEST_CASE("texts among documents see all before them, and what stands behind sees them") {
  for (const std::string name : {"llama", "qwen3"}) {
    CAPTURE(name);
    auto model = load_fixture(name);
    const prompt text = prompts().back();
    REQUIRE(!text.texts.empty());
    kv_cache cache(model.cache_shape(), room);
    const auto logits = stitched(model, text, text.plan(stitch_policy::none), cache);
    CHECK(distance(logits, computed_at_once(model, text, true)) <= exact);
    prompt without = text;
    without.texts.clear();
    CHECK(distance(logits, computed_at_once(model, without, true)) > exact);
    prompt linked = text;
    linked.links = {some_tokens(2, 20), some_tokens(2, 21), some_tokens(2, 20)};
    kv_cache behind(model.cache_shape(), room);
    CHECK(distance(stitched(model, linked, linked.plan(stitch_policy::link(2)), behind),
                   computed_at_once(model, linked, true)) <= exact);
  }
}

TEST_CASE("`full` is an ordinary causal prefill") {
  auto model = load_fixture("llama");
  for (const prompt& text : prompts()) {
    kv_cache cache(model.cache_shape(), room);
    const auto logits = stitched(model, text, text.plan(stitch_policy::full), cache);
    CHECK(distance(logits, computed_at_once(model, text, false)) <= exact);
  }
}

TEST_CASE("a single document at the prompt's begin is an ordinary causal prefill") {
  auto model = load_fixture("llama");
  prompt text;
  text.opening.clear();
  text.documents.resize(1);
  kv_cache cache(model.cache_shape(), room);
  const auto logits = stitched(model, text, text.plan(stitch_policy::none, {true}), cache);
  CHECK(distance(logits, computed_at_once(model, text, false)) <= exact);
}

TEST_CASE("links give the logits of a masked prefill of the prompt with its links") {
  for (const std::string name : {"llama", "qwen3"}) {
    CAPTURE(name);
    auto model = load_fixture(name);
    for (prompt text : prompts()) {
      text.links = {some_tokens(2, 20), some_tokens(2, 21), some_tokens(2, 20)};
      kv_cache cache(model.cache_shape(), room);
      const auto logits = stitched(model, text, text.plan(stitch_policy::link(2), {}), cache);
      CHECK(distance(logits, computed_at_once(model, text, true)) <= exact);
      prompt without = text;
      without.links.clear();
      CHECK(distance(logits, computed_at_once(model, without, true)) > exact);
      kv_cache none(model.cache_shape(), room), no_links(model.cache_shape(), room);
      CHECK(stitched(model, without, without.plan(stitch_policy::link(0), {}), no_links) ==
            stitched(model, without, without.plan(stitch_policy::none, {}), none));
    }
  }
}

TEST_CASE("epic and random rows overwrite their slots, layer by layer; the others stay as they were stored") {
  auto model = load_fixture("llama");
  for (const prompt& text : prompts())
    for (const auto& policy :
         {stitch_policy::epic(5), stitch_policy::epic(20), stitch_policy::random(300'000, 3)}) {
      CAPTURE(name_of(policy));
      const auto plan = text.plan(policy, {});
      auto reused = document_rows(plan);
      for (const auto& row : plan.rows)
        reused[static_cast<std::size_t>(row.position)] = false;
      REQUIRE(std::ranges::count(reused, true) > 20);
      kv_cache cache(model.cache_shape(), room);
      const auto logits = stitched(model, text, plan, cache);
      CHECK(distance(logits, with_reused_rows(model, text, reused, 0)) <= exact);
      CHECK(distance(logits, computed_at_once(model, text, true)) > exact);
      CHECK(distance(logits, computed_at_once(model, text, false)) > exact);
    }
}

TEST_CASE("blend goes on with the rows whose values changed most at the check layer") {
  for (const std::string name : {"llama", "qwen2"}) {
    CAPTURE(name);
    auto model = load_fixture(name);
    for (const prompt& text : prompts())
      // Values of layer 0 do not depend on what stands around a row.
      for (std::uint32_t layer = 1; layer < model.config().layers; ++layer) {
        CAPTURE(layer);
        const auto plan = text.plan(stitch_policy::blend(200'000, layer), {});
        REQUIRE(plan.selector);
        auto reused = document_rows(plan);
        std::vector<std::size_t> candidates;
        for (std::size_t row = 0; row < reused.size(); ++row)
          if (reused[row]) candidates.push_back(row);
        const auto changes = value_changes(model, text, layer);
        std::ranges::stable_sort(candidates,
                                 [&](std::size_t a, std::size_t b) { return changes[a] > changes[b]; });
        candidates.resize(plan.selector->rows);
        for (const std::size_t row : candidates)
          reused[row] = false;

        kv_cache cache(model.cache_shape(), room);
        const auto logits = stitched(model, text, plan, cache);
        CHECK(distance(logits, with_reused_rows(model, text, reused, layer + 1)) <= exact);
        CHECK(distance(logits, computed_at_once(model, text, true)) > exact);
        // Behind the last layer nobody is left who could attend to what is missing.
        const bool last = layer + 1 == model.config().layers;
        CHECK((distance(logits, computed_at_once(model, text, false)) > exact) == !last);
      }
  }
}

TEST_CASE("blend in chunks is blend at once") {
  auto options = exact_options();
  options.chunk_rows = 11;
  auto chunked = load_fixture("llama", options);
  auto whole = load_fixture("llama");
  const prompt text;
  const auto plan = text.plan(stitch_policy::blend(300'000, 1));
  kv_cache pieces(chunked.cache_shape(), room), one(whole.cache_shape(), room);
  CHECK(distance(stitched(chunked, text, plan, pieces), stitched(whole, text, plan, one)) <= exact);
}

TEST_CASE("policies that compute everything equal a plain prefill") {
  for (const std::string name : {"llama", "qwen2", "qwen3"}) {
    CAPTURE(name);
    auto model = load_fixture(name);
    for (const prompt& text : prompts()) {
      const auto expected = computed_at_once(model, text, false);
      for (const auto& policy : {stitch_policy::epic(70), stitch_policy::blend(1'000'000, 1),
                                 stitch_policy::blend(1'000'000, 0), stitch_policy::random(1'000'000)}) {
        CAPTURE(name_of(policy));
        kv_cache cache(model.cache_shape(), room);
        CHECK(distance(stitched(model, text, text.plan(policy, {}), cache), expected) <= exact);
      }
    }
  }
}

TEST_CASE("keys that are not rotated to where they land give other logits") {
  auto model = load_fixture("llama");
  for (const prompt& text : prompts()) {
    kv_cache cache(model.cache_shape(), room);
    const auto logits =
        stitched(model, text, text.plan(stitch_policy::none, {}, position_mode::document), cache);
    CHECK(distance(logits, computed_at_once(model, text, true)) > 10 * exact);
  }
}

TEST_CASE("only the chosen rows are computed behind the check layer, and all question rows") {
  auto model = load_fixture("llama");
  const prompt text;
  const auto plan = text.plan(stitch_policy::blend(100'000, 1));
  kv_cache cache(model.cache_shape(), room);
  std::vector<stored_document> stored;
  std::vector<document_blocks> blocks;
  for (const auto& document : text.documents)
    stored.emplace_back(encode_document(model, document).value(), 32);
  for (const auto& document : stored)
    blocks.push_back(document.blocks());
  REQUIRE(load_documents(model, cache, plan, blocks));
  std::vector<float> logits(plan.question_rows * model.config().vocab_size);
  const auto whole = prefill(model, cache, plan, logits);
  REQUIRE(whole);
  CHECK(whole->size() == text.opening.size() + text.question.size() + plan.selector->rows);
  CHECK(plan.selector->rows == 17);
  CHECK(std::ranges::is_sorted(*whole));
  for (std::uint32_t row = 0; row < plan.question_rows; ++row)
    CHECK((*whole)[whole->size() - 1 - row] == plan.rows.size() - 1 - row);
}

TEST_CASE("rows cannot be chosen at a layer that there is not, nor more than there are") {
  auto model = load_fixture("llama");
  const prompt text;
  kv_cache cache(model.cache_shape(), room);
  const row_batch batch = [&] {
    row_batch made = whole_prompt(text, false);
    made.logits_rows = {static_cast<std::uint32_t>(made.size() - 1)};
    return made;
  }();
  std::vector<float> logits(model.config().vocab_size);
  const auto refused = [&](const row_selection& selection) {
    const auto done = model.forward_selected(batch, cache, selection, logits);
    return !done && done.error().code == errc::invalid_argument && cache.rows(0, 0) == 0;
  };
  const auto last = static_cast<std::uint32_t>(batch.size() - 1);
  CHECK(refused({model.config().layers, 1, {5, 6}}));
  CHECK(refused({1, 3, {5, 6}}));
  CHECK(refused({1, 1, {6, 5}}));
  CHECK(refused({1, 1, {5, last + 1}}));
  CHECK(refused({1, 1, {5, last}}));
  CHECK(model.forward_selected(batch, cache, {1, 1, {5, 6}}, logits).has_value());
}

TEST_CASE("an answer does not depend on which documents were in the pool, bit for bit") {
  auto model = load_recall({.threads = 2});
  const prompt text;
  kv_cache loaded(model.cache_shape(), room);
  const auto logits = stitched(model, text, text.plan(stitch_policy::none), loaded);
  kv_cache computed(model.cache_shape(), room);
  const auto missed =
      stitched(model, text, text.plan(stitch_policy::none, {false, true, false}), computed, 64);
  CHECK(logits == missed);
  CHECK(same_rows(loaded, computed));
}

TEST_CASE("several questions are asked on one cache") {
  auto model = load_recall({.threads = 2});
  const prompt text;
  const auto plan = text.plan(stitch_policy::none);
  kv_cache cache(model.cache_shape(), room);
  const auto first = stitched(model, text, plan, cache);
  const auto question = std::span(plan.rows).last(plan.question_rows);

  prompt other = text;
  other.question = some_tokens(21, 6);
  const auto other_plan = other.plan(stitch_policy::none);
  cache.truncate(question.front().position);
  std::vector<float> second(model.config().vocab_size);
  REQUIRE(prefill_rows(model, cache, std::span(other_plan.rows).last(other_plan.question_rows), second));
  kv_cache fresh(model.cache_shape(), room);
  CHECK(second == stitched(model, other, other_plan, fresh));

  cache.truncate(question.front().position);
  std::vector<float> again(model.config().vocab_size);
  REQUIRE(prefill_rows(model, cache, question, again));
  CHECK(again == first);
}

TEST_CASE("an opening longer than a chunk is computed after the documents behind it") {
  auto options = exact_options();
  auto whole = load_fixture("qwen2", options);
  options.chunk_rows = 5;
  auto chunked = load_fixture("qwen2", options);
  prompt text;
  text.opening = some_tokens(23, 7);
  kv_cache cache(chunked.cache_shape(), room);
  const auto logits = stitched(chunked, text, text.plan(stitch_policy::none), cache);
  CHECK(distance(logits, computed_at_once(whole, text, true)) <= exact);
}

TEST_CASE("blocks that do not fit the plan, the cache or the context are refused") {
  auto model = load_fixture("llama");
  const prompt text;
  const auto plan = text.plan(stitch_policy::none);
  const auto document = encode_document(model, text.documents[0]);
  REQUIRE(document);
  const stored_document stored(*document, 32);
  const auto blocks = stored.blocks();
  kv_cache cache(model.cache_shape(), room);
  const auto code_of = [&](kv_cache& into, const stitch_plan& wanted, std::vector<document_blocks> given) {
    const auto done = load_documents(model, into, wanted, given);
    return done ? errc::ok : done.error().code;
  };
  CHECK(code_of(cache, plan, {blocks, blocks}) == errc::invalid_argument);          // two of three
  CHECK(code_of(cache, plan, {blocks, blocks, blocks}) == errc::invalid_argument);  // of other lengths
  const auto one = prompt{text.opening, {text.documents[0]}, text.question}.plan(stitch_policy::none, {true});
  kv_cache small(model.cache_shape(), 73);
  CHECK(code_of(small, one, {blocks}) == errc::out_of_space);
  CHECK(small.rows(0, 0) == 0);
  CHECK(code_of(cache, one, {blocks}) == errc::ok);
  CHECK(code_of(cache, one, {blocks}) == errc::invalid_argument);  // not empty any more

  std::vector<float> logits(model.config().vocab_size);
  CHECK(prefill_rows(model, cache, {}, logits).error().code == errc::invalid_argument);
  const auto context = static_cast<std::int32_t>(model.config().max_context_tokens);
  const weft::policies::planned_row beyond{1, context, 0, weft::policies::row_origin::question};
  CHECK(prefill_rows(model, cache, {&beyond, 1}, logits).error().code == errc::invalid_argument);
}
