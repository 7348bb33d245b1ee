// Documents that are scored after they were stored.
#include <doctest/doctest.h>

#include "recall_cluster.hpp"

#include <algorithm>
#include <memory>
#include <vector>

using namespace weft;
using namespace weft::simulation;
using actors::role;

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
    return counted(cluster, "prefill", name) + counted(cluster, "prefill-2", name);
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
    return counted(cluster, "storage-1", "storage.blocks") + counted(cluster, "storage-2", "storage.blocks");
  };
  std::int64_t blocks = 2 * count;  // manifests on two nodes
  for (const auto& document : after)
    blocks += static_cast<std::int64_t>(document.blocks);
  CHECK(held() == blocks);
  for (const auto& document : documents)
    value_of(cluster, cluster.drop_document("decode", document));
  CHECK(held() == 0);
}

TEST_CASE("documents that nodes rank get bands too, and what ranks their new blocks") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.background_importance = "kvzip";
  for (auto& node : plan.nodes)
    if (node.name.starts_with("storage")) node.roles.push_back(role::retrieval);
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto context = contexts_of("kv_512", 1).front();
  std::int64_t stored = 0;
  std::vector<id128> documents;
  for (const auto& text : context.documents) {
    const auto document = value_of(cluster, cluster.ingest("decode", text));
    documents.push_back(document.id);
    const auto full = document.tokens / actors::node_config{}.block_tokens;
    // Each block, what ranks the full ones; on two nodes manifest, index and what ranks the document.
    stored += static_cast<std::int64_t>(document.blocks + full) + 2 * 3;
  }
  const auto held = [&] {
    return counted(cluster, "storage-1", "storage.blocks") + counted(cluster, "storage-2", "storage.blocks");
  };
  CHECK(held() == stored);
  const auto count = static_cast<std::int64_t>(documents.size());
  for (int turn = 0; counted(cluster, "prefill", "importance.done") < count; ++turn) {
    REQUIRE(turn < 400);
    cluster.run_until([] { return false; }, std::chrono::milliseconds{100});
  }
  CHECK(counted(cluster, "prefill", "importance.failed") == 0);
  cluster.run_until([] { return false; }, std::chrono::seconds{6});  // until nobody reads the former blocks
  CHECK(held() == stored);

  for (const auto& document : documents)
    value_of(cluster, cluster.drop_document("decode", document));
  CHECK(held() == 0);
}
