#include <weft/collective/in_process.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/engine/shared_blocks.hpp>
#include <weft/engine/stitch.hpp>

#include <doctest/doctest.h>

#include "group_cases.hpp"
#include "small_models.hpp"
#include "stored_document.hpp"

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

namespace {

constexpr float largest_difference = 1e-3F;

runner load_named(const std::string& name, runner_options options) {
  return name == "recall" ? load_recall(options) : load_fixture(name, options);
}

// What every rank of a group returns for the same work, by rank.
template <class Result>
std::vector<Result> by_ranks(const std::string& name, unsigned ranks,
                             const std::function<Result(runner&)>& work,
                             const runner_options& options = exact_options()) {
  auto group = weft::collective::make_in_process_group(ranks, {.timeout = std::chrono::seconds{60}});
  std::vector<Result> results(ranks);
  std::vector<std::thread> threads;
  for (unsigned rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      runner_options own = options;
      own.threads = 1;
      own.group = group[rank].get();
      runner model = load_named(name, own);
      results[rank] = work(model);
    });
  for (auto& thread : threads)
    thread.join();
  return results;
}

const std::vector<case_of_ranks> possible = {
    {"llama", {2, 4}}, {"llama_tied", {2, 3, 4}}, {"llama_linear", {2}},
    {"qwen2", {2, 3}}, {"qwen3", {2, 4}},         {"recall", {2, 4}},
};

// Blocks of the whole model, in two bands, and what a prompt of them gives.
struct stored_prompt {
  std::vector<std::vector<token_id>> documents{some_tokens(70, 2), some_tokens(33, 3)};
  std::vector<token_id> opening = some_tokens(4, 1);
  std::vector<token_id> question = some_tokens(9, 5);
  std::vector<stored_document> stored;

  explicit stored_prompt(runner& whole) {
    for (const auto& tokens : documents) {
      const auto encoded = encode_document(whole, tokens);
      REQUIRE(encoded);
      stored.emplace_back(*encoded, 32, two_bands);
    }
  }

  weft::policies::stitch_plan plan(weft::policies::stitch_policy policy, bool second_stored = true) const {
    const std::vector<weft::policies::prompt_document> parts = {{documents[0], true},
                                                                {documents[1], second_stored}};
    auto made =
        weft::policies::plan_stitch(policy, {.opening = opening, .documents = parts, .question = question});
    REQUIRE(made);
    return *made;
  }

  std::vector<float> logits(runner& model, const weft::policies::stitch_plan& plan) const {
    kv_cache cache(model.cache_shape(), 256);
    std::vector<document_blocks> blocks;
    for (std::size_t i = 0; i < documents.size(); ++i)
      blocks.push_back(plan.documents[i].source == weft::policies::document_source::load ? stored[i].blocks()
                                                                                         : document_blocks{});
    const auto loaded = load_documents(model, cache, plan, blocks);
    REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
    std::vector<float> out(model.config().vocab_size);
    const auto done = prefill(model, cache, plan, out);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    return out;
  }
};

}  // namespace

TEST_CASE("every rank has the logits of the whole model") {
  for (const auto& of : possible) {
    CAPTURE(of.model);
    runner whole = load_named(of.model, exact_options());
    const auto wanted = some_logits(whole);
    for (const unsigned ranks : of.ranks) {
      CAPTURE(ranks);
      const auto given = by_ranks<std::vector<float>>(of.model, ranks, some_logits);
      for (const auto& logits : given) {
        CHECK(distance(logits, wanted) <= largest_difference);
        CHECK(logits == given.front());
      }
    }
  }
}

TEST_CASE("a rank keeps its part of the heads and of the weights' columns") {
  const auto shapes = by_ranks<model_shard>("llama_tied", 3, [](runner& model) {
    CHECK(model.cache_shape().kv_heads == model.shard().kv_heads.count);
    CHECK(model.config().intermediate_size == 32);
    CHECK(model.spec().kv_heads == 8);
    return model.shard();
  });
  CHECK(shapes[0].kv_heads == index_range{0, 2});
  CHECK(shapes[1].kv_heads == index_range{2, 3});
  CHECK(shapes[2].kv_heads == index_range{5, 3});
  const auto shared = by_ranks<model_shard>("recall", 4, [](runner& model) { return model.shard(); });
  CHECK(shared[2].kv_heads == index_range{1, 1});
  CHECK(shared[2].query_heads == index_range{2, 1});
}

TEST_CASE("a rank takes its heads out of stored blocks") {
  for (const std::string name : {"llama", "recall"}) {
    CAPTURE(name);
    runner whole = load_named(name, exact_options());
    const stored_prompt prompt(whole);
    using weft::policies::stitch_policy;
    // Loaded, loaded beside one that is encoded by the group, and with rows that are chosen by all heads.
    for (const auto& plan : {prompt.plan(stitch_policy::none), prompt.plan(stitch_policy::none, false),
                             prompt.plan(stitch_policy::blend(200'000))}) {
      const auto wanted = prompt.logits(whole, plan);
      for (const unsigned ranks : {2U, 4U})
        for (const auto& logits : by_ranks<std::vector<float>>(
                 name, ranks, [&](runner& model) { return prompt.logits(model, plan); }))
          CHECK(distance(logits, wanted) <= largest_difference);
    }
  }
}

TEST_CASE("blocks that one rank has come to all, proved by each") {
  runner whole = load_named("llama", exact_options());
  const stored_prompt prompt(whole);
  const auto bytes = prompt.stored[0].block_bytes();
  auto spoilt = std::vector<std::byte>(bytes[1].begin(), bytes[1].end());
  spoilt.back() ^= std::byte{1};
  std::vector<weft::block::expectation> expected(bytes.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    expected[i].key = {1, i};
    expected[i].fingerprint = {2, 3};
  }
  auto other_key = expected;
  other_key[0].key = {9, 9};
  const auto corrupt = [&] {
    auto with = bytes;
    with[1] = spoilt;
    return with;
  }();
  struct attempt {
    fetched_blocks fetched;
    std::vector<weft::block::expectation> expected;
    errc code;
  };
  const std::vector<attempt> attempts = {
      {corrupt, expected, errc::corrupt},
      {bytes, other_key, errc::stale},
      {weft::fail(errc::not_found, "no holder has block 3"), expected, errc::not_found},
      {std::vector{bytes[0]}, expected, errc::invalid_argument},
      {bytes, expected, errc::ok},
  };
  auto group = weft::collective::make_in_process_group(4, {.timeout = std::chrono::seconds{60}});
  std::vector<std::vector<errc>> codes(4);
  std::vector<std::thread> threads;
  for (unsigned rank = 0; rank < 4; ++rank)
    threads.emplace_back([&, rank] {
      for (const auto& [fetched, wanted, code] : attempts) {
        const auto shared =
            shared_blocks::broadcast(*group[rank], 2, wanted, rank == 2 ? fetched : fetched_blocks{});
        codes[rank].push_back(shared ? errc::ok : shared.error().code);
        if (!shared) continue;
        CHECK(shared->blocks().size() == bytes.size());
        CHECK(shared->blocks()[1].checksum_of_band(1) == prompt.stored[0].blocks()[1].checksum_of_band(1));
      }
    });
  for (auto& thread : threads)
    thread.join();
  for (const auto& seen : codes)
    for (std::size_t i = 0; i < attempts.size(); ++i)
      CHECK(seen[i] == attempts[i].code);
}

TEST_CASE("a group of a size that the model cannot be cut for is refused") {
  auto group = weft::collective::make_in_process_group(3);
  runner_options options = exact_options();
  options.group = group[0].get();
  const auto refused = runner::load(std::string(WEFT_SOURCE_DIR) + "/models/recall", options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::invalid_argument);
  CHECK(refused.error().context.find("groups of 1, 2, 4 can run it") != std::string::npos);
}

TEST_CASE("what one rank refuses, all refuse, and go on together") {
  const auto codes = by_ranks<std::vector<errc>>("llama", 2, [](runner& model) {
    std::vector<errc> seen;
    // Only the second rank's cache is too small.
    kv_cache small(model.cache_shape(), model.shard().rank == 1 ? 4 : 64);
    kv_cache large(model.cache_shape(), 64);
    row_batch batch;
    add_rows(batch, some_tokens(20, 1), 0);
    for (kv_cache* cache : {&small, &large}) {
      kv_cache* const caches[] = {cache};
      const auto done = model.forward(batch, caches, {});
      seen.push_back(done ? errc::ok : done.error().code);
    }
    return seen;
  });
  for (const auto& seen : codes)
    CHECK(seen == std::vector<errc>{errc::out_of_space, errc::ok});
}

TEST_CASE("a rank does not score rows, which takes all heads") {
  const auto codes = by_ranks<errc>("llama", 2, [](runner& model) {
    kv_cache cache(model.cache_shape(), 64);
    const auto tokens = some_tokens(10, 1);
    const auto scored = row_scorer(model).score(
        cache, {.policy = weft::policies::importance_policy::snapkv, .tokens = tokens});
    return scored ? errc::ok : scored.error().code;
  });
  CHECK(codes == std::vector<errc>{errc::unsupported, errc::unsupported});
}

TEST_CASE("a lost rank is an error of the forward pass") {
  auto group = weft::collective::make_in_process_group(2, {.timeout = std::chrono::seconds{60}});
  runner_options options = exact_options();
  options.group = group[0].get();
  runner model = load_fixture("llama", options);
  group[1].reset();
  kv_cache cache(model.cache_shape(), 64);
  row_batch batch;
  add_rows(batch, some_tokens(20, 1), 0);
  kv_cache* const caches[] = {&cache};
  const auto done = model.forward(batch, caches, {});
  REQUIRE_FALSE(done);
  CHECK(done.error().code == errc::unreachable);
}
