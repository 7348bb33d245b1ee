// Documents that are scored and stored in bands on some nodes, read at a ratio on another.
#include <weft/block/layout.hpp>
#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/prompt_format.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/policies/budget.hpp>

#include <doctest/doctest.h>

#include "recall_cluster.hpp"

#include <cstdlib>
#include <cstring>
#include <numeric>

using namespace weft;
using namespace weft::simulation;

namespace {

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
    // Its rows stay in the codecs that they came in.
    CHECK(static_cast<double>(after.cache_bytes) < 0.75 * static_cast<double>(before.cache_bytes));
  }
  const auto refused = failure_of(
      cluster,
      cluster.ingest("decode", "some text", {"kvzip", default_bands, std::vector<std::uint8_t>{1, 1}}));
  CHECK(refused.find("2 codecs for") != std::string::npos);
}

TEST_CASE("documents in one codec are attended to as they came, in half the memory") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("kv_512", 1).front();
  const std::vector<std::uint8_t> int8(default_bands.size(), 1);
  const std::vector<std::uint8_t> int4(default_bands.size(), 2);
  std::vector<id128> raw, small, smallest;
  for (const auto& text : context.documents) {
    raw.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands})).id);
    small.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands, int8})).id);
    smallest.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands, int4})).id);
  }
  std::size_t same = 0;
  for (const std::uint32_t ratio : {0U, 300'000U})
    for (const auto& [text, answers] : context.questions) {
      const auto before = value_of(cluster, cluster.ask("decode", asked(text, raw, ratio)));
      const auto after = value_of(cluster, cluster.ask("decode", asked(text, small, ratio)));
      same += after.text == before.text ? 1 : 0;
      const auto least = value_of(cluster, cluster.ask("decode", asked(text, smallest, ratio)));
      CHECK(after.misses + least.misses == 0);
      CHECK(after.cache_bytes < before.cache_bytes);
      CHECK(least.cache_bytes < after.cache_bytes);
      if (ratio == 0) CHECK(after.cache_bytes < 0.7 * static_cast<double>(before.cache_bytes));
    }
  CHECK(same + 1 >= 2 * context.questions.size());
}

TEST_CASE("bands in three codecs stay in them: memory is what was kept, and answers match") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("hop_512", 1).front();
  const std::vector<std::uint8_t> codecs{0, 0, 1, 1, 1, 2};
  std::vector<id128> raw, coded;
  for (const auto& text : context.documents) {
    raw.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands})).id);
    coded.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands, codecs})).id);
  }
  // Raw and coded documents in one prompt, too.
  auto both = raw;
  std::copy(coded.begin() + 1, coded.end(), both.begin() + 1);
  for (const auto& [text, answers] : context.questions)
    for (const std::uint32_t ratio : {200'000U, 500'000U, 0U}) {
      CAPTURE(ratio);
      const auto whole = value_of(cluster, cluster.ask("decode", asked(text, raw, ratio)));
      const auto mixed = value_of(cluster, cluster.ask("decode", asked(text, coded, ratio)));
      const auto partly = value_of(cluster, cluster.ask("decode", asked(text, both, ratio)));
      CHECK(mixed.misses + partly.misses == 0);
      if (ratio == 200'000U) {
        CHECK(mixed.cache_bytes == whole.cache_bytes);
        CHECK(mixed.tokens == whole.tokens);
        continue;
      }
      CHECK(mixed.text == whole.text);
      CHECK(partly.text == whole.text);
      CHECK(mixed.cache_bytes < partly.cache_bytes);
      CHECK(partly.cache_bytes < whole.cache_bytes);
      if (ratio == 0)
        CHECK(static_cast<double>(mixed.cache_bytes) < 0.7 * static_cast<double>(whole.cache_bytes));
    }
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
  const auto documents =
      ingest_in_bands(cluster, {"Report of Koreth. The access code for the vault at Koreth is 4821.",
                                "Notes of Melund. The tower at Melund is painted green."});
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

TEST_CASE("rows that stitching writes over stand raw, whatever codecs they came in") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const std::vector<std::string> texts{"Report of Koreth. The access code for the vault at Koreth is 4821.",
                                       "Notes of Melund. The tower at Melund is painted green."};
  const auto raw = ingest_in_bands(cluster, texts);
  const std::vector<std::uint8_t> codecs{0, 0, 1, 1, 1, 2};
  std::vector<id128> coded;
  for (const auto& text : texts)
    coded.push_back(value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands, codecs})).id);
  for (const std::string policy : {"epic(4)", "random(0.2)", "blend(0.2,1)"})
    for (const std::uint32_t ratio : {0U, 500'000U}) {
      if (ratio > 0 && policy.starts_with("blend")) continue;
      CAPTURE(policy);
      CAPTURE(ratio);
      auto q = asked("What is the access code for the vault at Koreth?", raw, ratio);
      q.stitch = policy;
      const auto before = value_of(cluster, cluster.ask("decode", q));
      q.documents = coded;
      const auto after = value_of(cluster, cluster.ask("decode", q));
      CHECK(after.text == "4821");
      CHECK(after.misses == 0);
      CHECK(after.cache_bytes == before.cache_bytes);
      CHECK(moved_bytes(after) < moved_bytes(before));
    }
}

TEST_CASE("a compressed document that is lost is scored again to the same rows") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("hop_512", 1).front();
  const auto documents = ingest_in_bands(cluster, context.documents);
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
      const auto documents = ingest_in_bands(cluster, context.documents);
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
