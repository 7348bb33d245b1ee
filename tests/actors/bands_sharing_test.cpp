// Rows of documents that several questions share.
#include <weft/block/layout.hpp>
#include <weft/policies/keys.hpp>
#include <weft/schema/manifest.hpp>

#include <doctest/doctest.h>

#include "counted_memory.hpp"
#include "recall_cluster.hpp"

#include <algorithm>
#include <memory>
#include <vector>

using namespace weft;
using namespace weft::simulation;

TEST_CASE("questions at the same time on the same documents load them once") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("kv_512", 1).front();
  const auto documents = ingest_in_bands(cluster, context.documents);
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
  const auto of_decode = [&](const std::string& name) {
    return static_cast<std::uint64_t>(counted(cluster, "decode", name));
  };
  CHECK(of_decode("decode.sessions") == 101);
  CHECK(of_decode("decode.shared_sessions") == 99);
  CHECK(of_decode("decode.bytes_read") == 2 * moved);
  CHECK(of_decode("decode.bytes_left_out") == 2 * (alone.full_bytes - moved));
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

TEST_CASE("the rows of question and answer are judged when they leave the window, documents stay") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.base_bytes = 8 << 20;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto stored = value_of(
      cluster, cluster.ingest("decode", "The tower at Melund is painted green.", {"kvzip", default_bands}));
  std::string text = "What is the tower at Melund painted?";
  for (int i = 0; i < 5; ++i)
    text += " " + text;  // longer than the window
  const auto ask = [&](const std::string& judge, std::int64_t threshold) {
    auto q = asked(text, {stored.id}, 0);
    q.judge = judge;
    q.threshold_millionths = threshold * 1'000'000;
    return q;
  };
  const auto all = value_of(cluster, cluster.ask("decode", ask("", 0)));
  CHECK(all.judged_rows == 0);
  const auto question_tokens = all.prompt_tokens - stored.tokens;  // and the opening, which stays
  REQUIRE(question_tokens > 150);
  const std::uint64_t heads = 8;
  for (const char* judge : {"kvzap_linear", "kvzap_mlp"}) {
    CAPTURE(judge);
    // At the same time, on the same shared rows.
    const auto none_go = cluster.ask("decode", ask(judge, -1000));
    const auto all_go = cluster.ask("decode", ask(judge, 1000));
    const auto some_go = cluster.ask("decode", ask(judge, -6));
    const auto none = value_of(cluster, none_go);
    CHECK(none.tokens == all.tokens);
    CHECK(none.dropped_rows == 0);
    CHECK(none.judged_rows % heads == 0);
    CHECK(none.judged_rows <= (question_tokens + none.tokens.size() - 128) * heads);
    CHECK(none.judged_rows + 8 * heads >= (question_tokens + none.tokens.size() - 128) * heads);
    const auto gone = value_of(cluster, all_go);
    CHECK(gone.dropped_rows == gone.judged_rows);
    CHECK(gone.judged_rows > 0);
    const auto some = value_of(cluster, some_go);
    CHECK(some.dropped_rows > 0);
    CHECK(some.dropped_rows < some.judged_rows);
  }
  // What was shared is as it was.
  CHECK(value_of(cluster, cluster.ask("decode", ask("", 0))).tokens == all.tokens);

  const auto refused = [&](const actors::question& q) {
    return failure_of(cluster, cluster.ask("decode", q));
  };
  CHECK(refused(ask("kvzip", -6)).find("kvzap_linear or kvzap_mlp; `kvzip`") != std::string::npos);
  CHECK(refused(ask("nobody", -6)).find("`nobody`") != std::string::npos);
  auto chosen = ask("kvzap_mlp", -6);
  chosen.stitch = "blend(0.2,1)";
  CHECK(refused(chosen).find("stitch policy none") != std::string::npos);
  auto sparse = ask("kvzap_mlp", -6);
  sparse.retrieval = "kvstar";
  CHECK(refused(sparse).find("--retrieval") != std::string::npos);
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

namespace {

// What the allocator of caches was asked for while these questions were answered at the same time.
std::uint64_t asked_for_by(simulated_cluster& cluster, const actors::question& question, std::size_t times) {
  const auto before = aligned_bytes_asked_for();
  std::vector<std::shared_ptr<eventual<actors::answer>>> all;
  for (std::size_t i = 0; i < times; ++i)
    all.push_back(cluster.ask("decode", question));
  for (const auto& one : all)
    value_of(cluster, one);
  return aligned_bytes_asked_for() - before;
}

// Of the documents' blocks: headers, which say where every band is and what it proves by.
std::uint64_t header_bytes(simulated_cluster& cluster, const std::vector<id128>& documents) {
  std::uint64_t bytes = 0;
  for (const auto& document : documents) {
    const auto found = value_of(cluster, cluster.get("decode", {policies::manifest_key(document)}));
    const auto opaque = block::view::parse(found->blocks[0].bytes->bytes()).value();
    const auto manifest = schema::from_bytes(opaque.payload()).value();
    const auto blocks = value_of(cluster, cluster.get("decode", manifest.block_keys));
    for (const auto& one : blocks->blocks)
      bytes += block::view::parse(one.bytes->bytes()).value().header_bytes();
  }
  return bytes;
}

}  // namespace

TEST_CASE("a session at 0.3 takes a third of the memory, a hundred sessions one base and a hundred tails") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto context = contexts_of("late_2048", 1).front();
  const auto documents = ingest_in_bands(cluster, context.documents);
  auto some = asked(context.questions.front().first, documents, 300'000);
  some.max_tokens = 8;
  auto all = some;
  all.ratio_millionths = 0;
  asked_for_by(cluster, all, 100);  // from here on scratch memory has grown to what 100 sessions need

  const auto full = asked_for_by(cluster, all, 1);
  const auto third = asked_for_by(cluster, some, 1);
  MESSAGE("asked for at 0.3: ", third, " of ", full, " bytes, ",
          static_cast<double>(third) / static_cast<double>(full));
  CHECK(static_cast<double>(third) <= 0.33 * static_cast<double>(full));

  // Caches and nothing else were counted, all that the answers say.
  const auto whole_answer = value_of(cluster, cluster.ask("decode", all));
  const auto answer = value_of(cluster, cluster.ask("decode", some));
  CHECK(full <= whole_answer.cache_bytes);
  CHECK(static_cast<double>(full) > 0.98 * static_cast<double>(whole_answer.cache_bytes));
  CHECK(third <= answer.cache_bytes);
  CHECK(static_cast<double>(third) > 0.98 * static_cast<double>(answer.cache_bytes));

  const auto moved = moved_bytes(answer);
  const auto tables = header_bytes(cluster, documents);
  MESSAGE("on the wire at 0.3: ", moved, " of ", moved_bytes(whole_answer), " bytes, headers ", tables);
  CHECK(static_cast<double>(moved) <=
        0.31 * static_cast<double>(moved_bytes(whole_answer)) + static_cast<double>(tables));

  const auto tail = asked_for_by(cluster, some, 2) - third;
  CHECK(tail < third / 5);
  CHECK(asked_for_by(cluster, some, 100) <= third + 99 * tail);
}
