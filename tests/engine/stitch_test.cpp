#include <weft/engine/stitch.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "stored_document.hpp"

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::policies::plan_stitch;
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

  stitch_plan plan(stitch_policy policy, std::vector<bool> stored = {true, true, true}) const {
    std::vector<prompt_document> parts;
    for (std::size_t i = 0; i < documents.size(); ++i)
      parts.push_back({documents[i], stored[i]});
    auto made = plan_stitch(policy, {opening, parts, question});
    REQUIRE(made);
    return *made;
  }
};

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
std::vector<float> computed_at_once(runner& model, const prompt& text, bool masked) {
  row_batch batch;
  add_rows(batch, text.opening, 0);
  std::int32_t segment = 0;
  for (const auto& document : text.documents)
    add_rows(batch, document, static_cast<std::int32_t>(batch.size()), masked ? ++segment : 0);
  add_rows(batch, text.question, static_cast<std::int32_t>(batch.size()));
  kv_cache cache(model.cache_shape(), room);
  return run(model, batch, cache);
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

TEST_CASE("`full` is an ordinary causal prefill") {
  auto model = load_fixture("llama");
  const prompt text;
  kv_cache cache(model.cache_shape(), room);
  const auto logits = stitched(model, text, text.plan(stitch_policy::full), cache);
  CHECK(distance(logits, computed_at_once(model, text, false)) <= exact);
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
