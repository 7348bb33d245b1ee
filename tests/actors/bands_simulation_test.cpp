// Documents that are scored and stored in bands on some nodes, read at a ratio on another.
#include <weft/block/layout.hpp>
#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/prompt_format.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/policies/budget.hpp>
#include <weft/policies/keys.hpp>
#include <weft/schema/manifest.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "simulated_cluster.hpp"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>

using namespace weft;
using namespace weft::simulation;
using actors::role;
using actors::scoring_wish;

namespace {

constexpr auto limit = std::chrono::seconds{60};
const char* const model_folder = WEFT_SOURCE_DIR "/models/recall";
const std::vector<std::uint32_t> default_bands{100'000, 200'000, 300'000, 500'000, 700'000, 1'000'000};

std::shared_ptr<engine::runner> recall_model() {
  engine::runner_options options;
  options.threads = 1;
  auto model = engine::runner::load(model_folder, options);
  REQUIRE_MESSAGE(model, to_string(model.error()));
  return std::make_shared<engine::runner>(std::move(*model));
}

cluster_plan plan_of(const std::shared_ptr<engine::runner>& model, std::uint32_t replicas = 1) {
  return {.seed = 11,
          .replicas = replicas,
          .nodes = {{"decode", {role::decode, role::gateway}},
                    {"prefill", {role::prefill}},
                    {"storage-1", {role::storage}},
                    {"storage-2", {role::storage}}},
          .model = model,
          .dram_bytes = 64 << 20,
          .staging_bytes = 16 << 20};
}

void settle(simulated_cluster& cluster) {
  REQUIRE(cluster.run_until([&] { return cluster.settled(); }, std::chrono::seconds{10}));
  cluster.run_until([] { return false; }, std::chrono::seconds{1});
}

template <class T>
T value_of(simulated_cluster& cluster, const std::shared_ptr<eventual<T>>& done) {
  REQUIRE(cluster.run_until([&] { return done->done(); }, limit));
  if (done->failure) FAIL(to_string(*done->failure));
  return *done->value;
}

template <class T>
std::string failure_of(simulated_cluster& cluster, const std::shared_ptr<eventual<T>>& done) {
  REQUIRE(cluster.run_until([&] { return done->done(); }, limit));
  REQUIRE(done->failure);
  CHECK(done->failure->context.find('\n') == std::string::npos);
  return done->failure->context;
}

struct recall_context {
  std::vector<std::string> documents;
  std::vector<std::pair<std::string, std::vector<std::string>>> questions;
};

std::vector<recall_context> contexts_of(const std::string& set, std::size_t count) {
  std::ifstream lines(WEFT_SOURCE_DIR "/models/sets/" + set + ".jsonl");
  std::vector<recall_context> contexts;
  for (std::string line; contexts.size() < count && std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    recall_context context{.documents = json.at("documents"), .questions = {}};
    for (const auto& question : json.at("questions"))
      context.questions.emplace_back(question.at("question"), question.at("answers"));
    contexts.push_back(std::move(context));
  }
  REQUIRE(contexts.size() == count);
  return contexts;
}

actors::question asked(const std::string& text, const std::vector<id128>& documents,
                       std::uint32_t ratio_millionths) {
  actors::question q;
  q.text = text;
  q.documents = documents;
  q.max_tokens = 24;
  q.ratio_millionths = ratio_millionths;
  return q;
}

std::uint64_t moved_bytes(const actors::answer& answer) {
  std::uint64_t bytes = 0;
  for (const auto& t : answer.transfers)
    bytes += t.bytes;
  return bytes;
}

bool same_rows(engine::kv_cache& a, engine::kv_cache& b) {
  const auto& shape = a.shape();
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const auto rows = a.rows(layer, head);
      if (rows != b.rows(layer, head)) return false;
      if (std::memcmp(a.k(layer, head), b.k(layer, head), rows * row_bytes) != 0) return false;
      if (std::memcmp(a.v(layer, head), b.v(layer, head), rows * row_bytes) != 0) return false;
      if (std::memcmp(a.positions(layer, head), b.positions(layer, head), rows * 4) != 0) return false;
    }
  return true;
}

// What a reader on this machine would have scored and kept, without any cluster.
struct local_document {
  engine::tokenizer tokenizer;
  std::vector<engine::token_id> tokens;
  engine::kv_cache cache;
  policies::score_table scores;
};

local_document score_here(engine::runner& model, const std::string& text) {
  auto tokenizer = engine::tokenizer::load(model_folder).value();
  const auto format = engine::prompt_format::for_model(model.config(), tokenizer).value();
  const auto tokens = format.document(tokenizer, text);
  const auto plan = engine::repeat_plan_for(model.config(), tokenizer, format).value();
  const engine::scoring_request request{.tokens = tokens,
                                        .repeat = &plan.prompt,
                                        .chunks = plan.chunks(0, static_cast<std::uint32_t>(tokens.size()))};
  engine::kv_cache cache(model.cache_shape(), engine::scoring_capacity_rows(request));
  engine::row_scorer scorer(model);
  auto scores = scorer.score(cache, request).value();
  return {std::move(tokenizer), tokens, std::move(cache), std::move(scores)};
}

}  // namespace

TEST_CASE("bands from other nodes are bit for bit the cache that the global budget gives here") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto text = contexts_of("kv_512", 1).front().documents.front();
  const auto stored = value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands}));
  CHECK(stored.importance == "kvzip");
  CHECK(stored.band_millionths == default_bands);
  REQUIRE(stored.band_bytes.size() == default_bands.size());
  CHECK(stored.band_bytes.back() == stored.bytes);

  auto here = score_here(*model, text);
  const policies::key_scope scope{"default", block::fingerprint(model->spec())};
  const auto keys = policies::document_block_keys(scope, {}, stored.id, here.tokens);
  REQUIRE(keys.size() == stored.blocks);
  const auto whole = value_of(cluster, cluster.get("decode", keys));
  for (std::uint32_t band = 0; band < default_bands.size(); ++band) {
    CAPTURE(band);
    std::vector<std::uint64_t> front_bytes;
    for (const auto& block : whole->blocks) {
      REQUIRE(block.outcome);
      const auto view = block::view::parse(block.bytes->bytes());
      REQUIRE(view);
      front_bytes.push_back(view->end_of_band(band));
    }
    const auto fetched = value_of(cluster, cluster.get("decode", keys, false, front_bytes));
    std::uint64_t bytes = 0;
    for (const auto& t : fetched->transfers)
      bytes += t.bytes;
    CHECK(bytes == std::accumulate(front_bytes.begin(), front_bytes.end(), std::uint64_t{0}));
    CHECK(bytes == stored.band_bytes[band]);

    std::vector<block::view> views;
    for (const auto& block : fetched->blocks) {
      REQUIRE(block.outcome);
      views.push_back(block::view::parse(block.bytes->bytes()).value());
    }
    std::vector<engine::placed_block> placed;
    std::int32_t position = 0;
    for (const auto& view : views) {
      CHECK(view.bands_present() == band + 1);
      placed.push_back({&view, view.bands_present(), position, 1});
      position += static_cast<std::int32_t>(view.dimensions().tokens);
    }
    const auto ratio = policies::decimal_ratio::from(default_bands[band] / 1e6).value();
    const auto kept = policies::keep_rows(here.scores, {.ratio = ratio}).value();
    auto expected = engine::copy_kept_rows(here.cache, kept, 0).value();
    std::vector<std::uint32_t> capacity;
    for (std::size_t head = 0; head < kept.shape.heads(); ++head)
      capacity.push_back(kept.count(head));
    engine::kv_cache got(model->cache_shape(), capacity);
    REQUIRE(engine::scatter_blocks(*model, got, placed));
    CHECK(same_rows(got, expected));
  }
}

TEST_CASE("bands in int8 take half the bytes and answer the same, under a name of their own") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("hop_512", 1).front();
  std::vector<std::uint8_t> tail(default_bands.size(), 1);
  tail.front() = 0;  // the most important rows stay raw
  std::vector<id128> raw, coded;
  std::uint64_t raw_bytes = 0, coded_bytes = 0;
  for (const auto& text : context.documents) {
    const auto whole = value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands}));
    const auto smaller = value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands, tail}));
    CHECK(whole.id != smaller.id);
    raw.push_back(whole.id);
    coded.push_back(smaller.id);
    raw_bytes += whole.bytes;
    coded_bytes += smaller.bytes;
  }
  CHECK(coded_bytes < 0.75 * static_cast<double>(raw_bytes));  // with indices and parts of 64 bytes
  for (const auto& [text, answers] : context.questions) {
    const auto before = value_of(cluster, cluster.ask("decode", asked(text, raw, 0)));
    const auto after = value_of(cluster, cluster.ask("decode", asked(text, coded, 0)));
    CHECK(after.text == before.text);
    CHECK(moved_bytes(after) < moved_bytes(before));
  }
  const auto refused = failure_of(
      cluster,
      cluster.ingest("decode", "some text", {"kvzip", default_bands, std::vector<std::uint8_t>{1, 1}}));
  CHECK(refused.find("2 codecs for") != std::string::npos);
}

TEST_CASE("an answer at a ratio reads those bands alone and keeps no other row") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("kv_512", 1).front();
  std::vector<id128> scored, whole, pruned;
  std::uint64_t up_to_0_3 = 0;
  for (const auto& text : context.documents) {
    const auto banded = value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands}));
    scored.push_back(banded.id);
    up_to_0_3 += banded.band_bytes[2];
    whole.push_back(value_of(cluster, cluster.ingest("decode", text)).id);
    pruned.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", {100'000, 300'000}})).id);
    // Other rows under other keys, whatever the tokens have in common.
    CHECK(scored.back() != whole.back());
    CHECK(pruned.back() != whole.back());
    CHECK(pruned.back() != scored.back());
  }
  const auto& question = context.questions.front().first;
  const auto ask = [&](const std::vector<id128>& documents, std::uint32_t ratio) {
    return value_of(cluster, cluster.ask("decode", asked(question, documents, ratio)));
  };
  const auto exact = ask(whole, 0);
  const auto all = ask(scored, 0);
  CHECK(all.tokens == exact.tokens);
  CHECK(moved_bytes(all) == all.full_bytes);

  const auto some = ask(scored, 300'000);
  CHECK(some.misses == 0);
  CHECK(moved_bytes(some) == up_to_0_3);
  // The rest is the question's and the answer's rows, and of the wire's bytes the tables of tiny bands.
  CHECK(static_cast<double>(moved_bytes(some)) < 0.36 * static_cast<double>(some.full_bytes));
  CHECK(static_cast<double>(some.cache_bytes) < 0.45 * static_cast<double>(exact.cache_bytes));

  // A ratio between two bands takes the next one above.
  CHECK(moved_bytes(ask(scored, 250'000)) == up_to_0_3);
  CHECK(ask(scored, 250'000).tokens == some.tokens);

  // What was left out at ingest gives the same rows as what is left out here.
  CHECK(ask(pruned, 0).tokens == some.tokens);
  CHECK(ask(pruned, 300'000).cache_bytes == some.cache_bytes);

  CHECK(failure_of(cluster, cluster.ask("decode", asked(question, pruned, 500'000))).find("keeps 0.3") !=
        std::string::npos);
  CHECK(failure_of(cluster, cluster.ask("decode", asked(question, whole, 300'000)))
            .find("ingest it with --importance") != std::string::npos);
  CHECK(failure_of(cluster, cluster.ingest("decode", "text", {"nonsense", default_bands})).find("kvzip") !=
        std::string::npos);
}

TEST_CASE("stitching policies compose with a ratio, or say why they do not") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  std::vector<id128> documents;
  for (const auto* text : {"Report of Koreth. The access code for the vault at Koreth is 4821.",
                           "Notes of Melund. The tower at Melund is painted green."})
    documents.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands})).id);
  const auto* const question = "What is the access code for the vault at Koreth?";
  for (const std::string policy : {"none", "epic(4)"}) {
    CAPTURE(policy);
    for (const bool swapped : {false, true}) {
      auto q = asked(question, documents, 500'000);
      if (swapped) std::swap(q.documents[0], q.documents[1]);
      q.stitch = policy;
      CHECK(value_of(cluster, cluster.ask("decode", q)).text == "4821");
    }
  }
  for (const std::string policy : {"blend", "full"}) {
    CAPTURE(policy);
    auto q = asked(question, documents, 500'000);
    q.stitch = policy;
    CHECK(failure_of(cluster, cluster.ask("decode", q)).find("without a ratio") != std::string::npos);
  }
}

TEST_CASE("a compressed document that is lost is scored again to the same rows") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("hop_512", 1).front();
  std::vector<id128> documents;
  for (const auto& text : context.documents)
    documents.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands})).id);
  const auto ask = [&] {
    return value_of(cluster, cluster.ask("decode", asked(context.questions[0].first, documents, 200'000)));
  };
  const auto before = ask();
  CHECK(before.misses == 0);
  cluster.kill("storage-1");
  const auto after = ask();
  CHECK(after.misses > 0);
  CHECK(after.tokens == before.tokens);
  CHECK(after.cache_bytes == before.cache_bytes);
}

TEST_CASE("questions at the same time on the same documents load them once") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("kv_512", 1).front();
  std::vector<id128> documents;
  for (const auto& text : context.documents)
    documents.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands})).id);
  const auto& question = context.questions.front().first;
  const auto alone = value_of(cluster, cluster.ask("decode", asked(question, documents, 300'000)));

  std::vector<std::shared_ptr<eventual<actors::answer>>> all;
  for (int i = 0; i < 100; ++i)
    all.push_back(cluster.ask("decode", asked(question, documents, 300'000)));
  std::uint64_t moved = 0;
  for (const auto& one : all) {
    const auto got = value_of(cluster, one);
    CHECK(got.tokens == alone.tokens);
    CHECK(got.misses == 0);
    CHECK(got.cache_bytes == alone.cache_bytes);
    moved += moved_bytes(got);
  }
  CHECK(moved == moved_bytes(alone));
  const auto counters = value_of(cluster, cluster.report("decode")).counters;
  const auto counted = [&](const std::string& name) {
    const auto found = std::ranges::find(counters, name, &actors::counter::name);
    REQUIRE(found != counters.end());
    return static_cast<std::uint64_t>(found->value);
  };
  CHECK(counted("decode.sessions") == 101);
  CHECK(counted("decode.shared_sessions") == 99);
  CHECK(counted("decode.bytes_read") == 2 * moved);
  CHECK(counted("decode.bytes_left_out") == 2 * (alone.full_bytes - moved));
}

TEST_CASE("with memory for it the next question on the same documents loads nothing") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.base_bytes = 8 << 20;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto stored = value_of(
      cluster, cluster.ingest("decode", "The tower at Melund is painted green.", {"kvzip", default_bands}));
  const auto ask = [&](std::uint32_t ratio) {
    return value_of(cluster, cluster.ask("decode", asked("What is the tower painted?", {stored.id}, ratio)));
  };
  const auto first = ask(500'000);
  CHECK(moved_bytes(first) > 0);
  const auto second = ask(500'000);
  CHECK(moved_bytes(second) == 0);
  CHECK(second.tokens == first.tokens);
  CHECK(moved_bytes(ask(0)) > moved_bytes(first));  // other rows
}

TEST_CASE("shared rows count once against the memory for caches, and idle ones make room") {
  const auto model = recall_model();
  const auto context = contexts_of("kv_512", 1).front();
  const auto& question = context.questions.front().first;
  const auto ingest = [&](simulated_cluster& cluster) {
    std::vector<id128> documents;
    for (const auto& text : context.documents)
      documents.push_back(value_of(cluster, cluster.ingest("decode", text)).id);
    return documents;
  };
  actors::answer alone;
  {
    simulated_cluster cluster{plan_of(model)};
    settle(cluster);
    alone = value_of(cluster, cluster.ask("decode", asked(question, ingest(cluster), 0)));
  }
  auto plan = plan_of(model);
  plan.cache_bytes = alone.cache_bytes * 8 / 5;  // two full copies do not fit
  plan.base_bytes = plan.cache_bytes;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto documents = ingest(cluster);
  std::vector<std::shared_ptr<eventual<actors::answer>>> all;
  for (int i = 0; i < 4; ++i)
    all.push_back(cluster.ask("decode", asked(question, documents, 0)));
  for (const auto& one : all)
    CHECK(value_of(cluster, one).tokens == alone.tokens);

  // The same documents at other places are another base.
  const std::vector<id128> reversed{documents.rbegin(), documents.rend()};
  for (int i = 0; i < 2; ++i)
    CHECK(!value_of(cluster, cluster.ask("decode", asked(question, reversed, 0))).text.empty());

  // While one is being used there is no room for the other, whoever loads first.
  const auto first = cluster.ask("decode", asked(question, documents, 0));
  const auto second = cluster.ask("decode", asked(question, reversed, 0));
  REQUIRE(cluster.run_until([&] { return first->done() && second->done(); }, limit));
  CHECK(first->value.has_value() != second->value.has_value());
  const auto& refused = first->failure ? first->failure : second->failure;
  REQUIRE(refused);
  CHECK(refused->context.find("bytes of KV cache") != std::string::npos);
}

TEST_CASE(
    "under pressure cold documents lose low bands before any is dropped, and say what they still serve") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.dram_bytes = 1 << 20;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto contexts = contexts_of("kv_512", 4);
  std::vector<id128> first;
  std::size_t ingested = 0;
  for (const auto& context : contexts)
    for (const auto& text : context.documents) {
      const auto stored = value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands}));
      CHECK(stored.served_millionths == 1'000'000);
      if (first.size() < contexts[0].documents.size()) first.push_back(stored.id);
      ++ingested;
    }
  const auto listed = value_of(cluster, cluster.documents("decode")).documents;
  REQUIRE(listed.size() == ingested);
  std::size_t trimmed = 0;
  std::uint32_t served = 1'000'000;
  for (const auto& document : listed) {
    CHECK(document.served_millionths >= 100'000);  // none was dropped
    trimmed += document.served_millionths < 1'000'000 ? 1 : 0;
    if (std::ranges::find(first, document.id) != first.end())
      served = std::min(served, static_cast<std::uint32_t>(document.served_millionths));
  }
  CHECK(trimmed > 0);
  REQUIRE(served < 1'000'000);

  const auto& question = contexts[0].questions[0].first;
  const auto at_served = value_of(cluster, cluster.ask("decode", asked(question, first, served)));
  CHECK(at_served.misses == 0);
  CHECK(at_served.recomputed_rows == 0);
  // What is not there any more is computed again; nobody gets fewer rows than asked for.
  const auto all = value_of(cluster, cluster.ask("decode", asked(question, first, 0)));
  CHECK(all.misses > 0);
  CHECK(all.cache_bytes > at_served.cache_bytes);
  CHECK(std::ranges::find(contexts[0].questions[0].second, all.text) !=
        contexts[0].questions[0].second.end());
}

TEST_CASE("what is remembered of a block that lost bands since then is not found where it was") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.nodes.pop_back();  // one holder
  plan.dram_bytes = 1 << 20;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto contexts = contexts_of("kv_512", 3);
  const scoring_wish wish{"kvzip", default_bands};
  const auto stored = value_of(cluster, cluster.ingest("decode", contexts[0].documents[0], wish));
  const auto manifest_block = value_of(cluster, cluster.get("decode", {policies::manifest_key(stored.id)}));
  REQUIRE(manifest_block->blocks[0].outcome);
  const auto opaque = block::view::parse(manifest_block->blocks[0].bytes->bytes()).value();
  const auto manifest = schema::from_bytes(opaque.payload()).value();
  const auto& keys = manifest.block_keys;
  const auto bands = manifest.bands.size();
  const auto ends_of = [&](std::size_t band) {
    std::vector<std::uint64_t> ends;
    for (std::size_t i = 0; i < keys.size(); ++i)
      ends.push_back(manifest.band_ends[i * bands + band]);
    return ends;
  };
  const auto whole = value_of(cluster, cluster.get("decode", keys, false, ends_of(bands - 1)));
  // Every band that came is the one that was there at the beginning.
  const auto count_read = [&](std::size_t band) {
    const auto again = value_of(cluster, cluster.get("decode", keys, false, ends_of(band)));
    std::size_t read = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (!again->blocks[i].outcome) continue;
      ++read;
      const auto now = block::view::parse(again->blocks[i].bytes->bytes()).value();
      const auto before = block::view::parse(whole->blocks[i].bytes->bytes()).value();
      REQUIRE(now.bands_present() == band + 1);
      REQUIRE(now.verify_bands());
      for (std::uint32_t b = 0; b <= band; ++b)
        CHECK(now.checksum_of_band(b) == before.checksum_of_band(b));
    }
    return read;
  };
  const auto counted = [&](const std::string& name) {
    const auto counters = value_of(cluster, cluster.report("decode")).counters;
    return std::ranges::find(counters, name, &actors::counter::name)->value;
  };
  CHECK(count_read(bands - 1) == keys.size());
  const auto blocks = static_cast<std::int64_t>(keys.size());
  REQUIRE(counted("pool.blocks_remembered") == blocks);
  REQUIRE(counted("pool.blocks_moved") == 0);

  for (std::size_t c = 1; c < contexts.size(); ++c)
    for (const auto& text : contexts[c].documents)
      value_of(cluster, cluster.ingest("decode", text, wish));
  const auto listed = value_of(cluster, cluster.documents("decode")).documents;
  const auto summary = std::ranges::find(listed, stored.id, &actors::document_summary::id);
  REQUIRE(summary != listed.end());
  REQUIRE(summary->served_millionths < 1'000'000);
  REQUIRE(summary->served_millionths > 0);

  CHECK(count_read(bands - 1) < keys.size());
  const auto moved = counted("pool.blocks_moved");
  CHECK(moved > 0);
  CHECK(count_read(0) == keys.size());  // its first band is there, elsewhere
  const auto remembered = counted("pool.blocks_remembered");
  CHECK(count_read(0) == keys.size());
  CHECK(counted("pool.blocks_remembered") == remembered + blocks);
  CHECK(counted("pool.blocks_rejected") == 0);
}

TEST_CASE("documents that were stored whole get bands while there is nothing else to do") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.nodes.push_back({"prefill-2", {role::prefill}});
  plan.background_importance = "kvzip";
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto context = contexts_of("kv_512", 1).front();
  const auto& [question, answers] = context.questions.front();
  std::vector<id128> documents;
  for (const auto& text : context.documents)
    documents.push_back(value_of(cluster, cluster.ingest("decode", text)).id);
  const auto whole = value_of(cluster, cluster.ask("decode", asked(question, documents, 0)));
  CHECK(failure_of(cluster, cluster.ask("decode", asked(question, documents, 300'000)))
            .find("--importance kvzip") != std::string::npos);
  const auto before = value_of(cluster, cluster.documents("decode")).documents;
  value_of(cluster, cluster.pin_document("decode", documents[0]));

  const auto sum_of = [&](const std::string& name) {
    std::int64_t sum = 0;
    for (const auto* node : {"prefill", "prefill-2"}) {
      const auto counters = value_of(cluster, cluster.report(node)).counters;
      const auto found = std::ranges::find(counters, name, &actors::counter::name);
      REQUIRE(found != counters.end());
      sum += found->value;
    }
    return sum;
  };
  // Questions all the while: each is answered, out of blocks or anew, and by the same tokens.
  const auto count = static_cast<std::int64_t>(documents.size());
  for (int asked_so_far = 0; sum_of("importance.done") < count; ++asked_so_far) {
    REQUIRE(asked_so_far < 400);
    CHECK(value_of(cluster, cluster.ask("decode", asked(question, documents, 0))).tokens == whole.tokens);
    cluster.run_until([] { return false; }, std::chrono::milliseconds{100});
  }
  CHECK(sum_of("importance.failed") == 0);
  CHECK(sum_of("importance.waiting") == 0);
  cluster.run_until([] { return false; }, std::chrono::seconds{6});  // until nobody reads the former blocks

  const auto after = value_of(cluster, cluster.documents("decode")).documents;
  REQUIRE(after.size() == before.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    CHECK(after[i].id == before[i].id);
    CHECK(after[i].importance == "kvzip");
    CHECK(after[i].band_millionths == default_bands);
    CHECK(after[i].served_millionths == 1'000'000);
    CHECK(after[i].pinned == (after[i].id == documents[0]));
  }
  const auto all = value_of(cluster, cluster.ask("decode", asked(question, documents, 0)));
  CHECK(all.tokens == whole.tokens);
  CHECK(all.misses == 0);
  const auto some = value_of(cluster, cluster.ask("decode", asked(question, documents, 300'000)));
  CHECK(some.misses == 0);
  CHECK(std::ranges::find(answers, some.text) != answers.end());
  CHECK(moved_bytes(some) < moved_bytes(all) / 2);
  CHECK(some.cache_bytes < all.cache_bytes);

  // The former blocks are gone, and so is everything once the documents are dropped.
  const auto held = [&] {
    std::int64_t blocks = 0;
    for (const auto* node : {"storage-1", "storage-2"}) {
      const auto counters = value_of(cluster, cluster.report(node)).counters;
      blocks += std::ranges::find(counters, "storage.blocks", &actors::counter::name)->value;
    }
    return blocks;
  };
  std::int64_t blocks = 2 * count;  // manifests on two nodes
  for (const auto& document : after)
    blocks += static_cast<std::int64_t>(document.blocks);
  CHECK(held() == blocks);
  for (const auto& document : documents)
    value_of(cluster, cluster.drop_document("decode", document));
  CHECK(held() == 0);
}

// WEFT_CONTEXTS=n asks about the first n contexts of each set.
TEST_CASE("documents scored alone, stored in bands, fetched and stitched answer as well as whole ones") {
  const char* wish = std::getenv("WEFT_CONTEXTS");
  const std::size_t count = wish == nullptr ? 8 : std::strtoull(wish, nullptr, 10);
  const auto model = recall_model();
  std::map<std::uint32_t, std::size_t> right;
  std::size_t total = 0;
  for (const auto* set : {"kv_512", "hop_512", "needle_512", "latest_512"}) {
    simulated_cluster cluster{plan_of(model)};
    settle(cluster);
    for (const auto& context : contexts_of(set, count)) {
      std::vector<id128> documents;
      for (const auto& text : context.documents)
        documents.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands})).id);
      for (const auto& [question, answers] : context.questions) {
        ++total;
        for (const std::uint32_t ratio : {0U, 300'000U, 200'000U}) {
          const auto got = value_of(cluster, cluster.ask("decode", asked(question, documents, ratio)));
          CHECK(got.misses == 0);
          if (std::ranges::find(answers, got.text) != answers.end()) ++right[ratio];
        }
      }
    }
  }
  const auto percent = [&](std::uint32_t ratio) {
    return 100.0 * static_cast<double>(right[ratio]) / static_cast<double>(total);
  };
  MESSAGE(total << " questions: all rows " << percent(0) << " %, 0.3 " << percent(300'000) << " %, 0.2 "
                << percent(200'000) << " %");
  CHECK(percent(0) >= 95);
  CHECK(percent(300'000) >= percent(0) - (count >= 8 ? 1 : 6));
  CHECK(percent(200'000) >= (count >= 8 ? 76 : 60));
}
