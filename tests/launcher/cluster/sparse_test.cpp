// Questions that are decoded sparsely, over real processes: blocks and what ranks them lie on three nodes.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "running_cluster.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>
#include <utility>

using namespace weft;
using namespace weft::testing;
using nlohmann::json;

namespace {

constexpr std::uint64_t row_bytes = 1024;  // of the recall model: 4 layers, 2 heads, 32 channels, bf16
constexpr std::uint64_t layers = 4;
constexpr std::uint64_t block_tokens = 16;
constexpr std::uint64_t small_cache_bytes = 244 << 10;

std::string cluster_file(unsigned replicas, std::uint64_t cache_bytes, unsigned rankers = 3,
                         const std::string& options = "") {
  std::string text = "model = \"" WEFT_SOURCE_DIR "/models/recall\"\nreplicas = " + std::to_string(replicas) +
                     "\nblock_tokens = 16\n" + options + "[gateway]\nlisten = \"127.0.0.1:0\"\n";
  const auto node = [&](const std::string& name, const std::string& roles, const std::string& more) {
    text += "[[node]]\nname = \"" + name + "\"\nroles = [" + roles + "]\nhost = \"127.0.0.1\"\n" + more;
  };
  node("prefill", "\"prefill\"", "");
  for (const char* name : {"storage-1", "storage-2", "storage-3"}) {
    node(name, rankers > 0 ? "\"storage\", \"retrieval\"" : "\"storage\"", "dram = \"32 MiB\"\n");
    rankers -= std::min(rankers, 1U);
  }
  node("decode", "\"decode\", \"gateway\"",
       cache_bytes > 0 ? "cache = \"" + std::to_string(cache_bytes >> 10) + " KiB\"\n" : "");
  return text;
}

struct asked {
  std::string question;
  std::string answer;
};

// The first sets of a file into the pool, each as one document where `joined`, and the questions about them.
struct context {
  std::vector<id128> documents;
  std::vector<asked> questions;
  std::uint64_t tokens = 0;
  std::uint64_t items = 0;  // that one copy is of: blocks, what ranks them, manifests, indexes
};

context ingest_sets(running_cluster& cluster, const std::string& file, std::size_t sets, bool joined = false,
                    const client::ingest_request& how = {}) {
  context made;
  std::ifstream lines{std::string{WEFT_SOURCE_DIR "/models/sets/"} + file};
  std::string line;
  while (sets-- > 0 && std::getline(lines, line)) {
    const auto set = json::parse(line);
    std::vector<std::string> texts = set.at("documents");
    if (joined) {
      for (std::size_t i = 1; i < texts.size(); ++i)
        texts[0] += " " + texts[i];
      texts.resize(1);
    }
    for (const auto& text : texts) {
      client::ingest_request request = how;
      request.name = "document";
      request.text = text;
      const auto info = cluster.client().ingest(request);
      REQUIRE_MESSAGE(info, to_string(info.error()));
      made.documents.push_back(info->id);
      made.tokens += info->tokens;
      made.items += info->blocks + info->tokens / block_tokens + 3;
    }
    for (const auto& q : set.at("questions"))
      made.questions.push_back({q.at("question"), q.at("answers").at(0)});
  }
  return made;
}

client::ask_request request_for(const context& about, const asked& q, const std::string& retrieval,
                                double sparse_ratio) {
  client::ask_request request;
  request.question = q.question;
  request.documents = about.documents;
  request.max_tokens = 8;
  request.retrieval = retrieval;
  if (!retrieval.empty()) request.sparse_ratio = sparse_ratio;
  return request;
}

client::ask_result answer_to(running_cluster& cluster, const client::ask_request& request) {
  const auto answer = cluster.client().ask(request);
  REQUIRE_MESSAGE(answer, to_string(answer.error()));
  return *answer;
}

client::ingest_request scored(std::optional<double> ratio, std::vector<std::string> codecs) {
  client::ingest_request request;
  request.importance = "kvzip";
  request.ratio = ratio;
  request.codecs = std::move(codecs);
  return request;
}

std::uint64_t moved_bytes(const client::ask_result& answer) {
  std::uint64_t bytes = 0;
  for (const auto& t : answer.transfers)
    bytes += t.bytes;
  return bytes;
}

std::string refusal_of(running_cluster& cluster, const client::ask_request& request) {
  const auto answer = cluster.client().ask(request);
  REQUIRE(!answer);
  CHECK(answer.error().context.find('\n') == std::string::npos);
  return answer.error().context;
}

}  // namespace

TEST_CASE("attending to every block is dense decoding, whatever ranks them") {
  running_cluster cluster(cluster_file(2, 0), 5);
  const auto about = ingest_sets(cluster, "needle_512.jsonl", 1);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& q = about.questions[i];
    const auto dense = answer_to(cluster, request_for(about, q, "", 0));
    CHECK(!dense.sparse);
    for (const char* policy : {"full", "kvstar", "quest", "esa", "kvstar_ahead"}) {
      CAPTURE(policy);
      const auto sparse = answer_to(cluster, request_for(about, q, policy, 1.0));
      CHECK(sparse.tokens == dense.tokens);
      REQUIRE(sparse.sparse);
      CHECK(sparse.sparse->middle_blocks > 0);
      CHECK(sparse.sparse->blocks_moved > 0);
      CHECK(sparse.sparse->blocks_lost == 0);
    }
  }
  // Texts among the documents see the blocks that stay in the pool as well.
  auto mixed = request_for(about, about.questions[0], "", 0);
  for (const auto& document : about.documents)
    if (mixed.parts.size() % 3 == 2)
      mixed.parts.insert(mixed.parts.end(),
                         {std::string{"Remark of the editor: nothing is known of it."}, document});
    else
      mixed.parts.emplace_back(document);
  mixed.documents.clear();
  const auto dense_mixed = answer_to(cluster, mixed);
  for (const char* policy : {"full", "kvstar", "kvstar_ahead"}) {
    CAPTURE(policy);
    mixed.retrieval = policy;
    mixed.sparse_ratio = 1.0;
    const auto sparse = answer_to(cluster, mixed);
    CHECK(sparse.tokens == dense_mixed.tokens);
    REQUIRE(sparse.sparse);
    CHECK(sparse.sparse->middle_blocks > 0);
  }
  for (const char* policy : {"kvstar", "quest", "esa", "kvstar_ahead"}) {
    CAPTURE(policy);
    const auto sparse = answer_to(cluster, request_for(about, about.questions[0], policy, 0.25));
    REQUIRE(sparse.sparse);
    CHECK(sparse.sparse->retrieval_nodes == 3);
    CHECK(sparse.sparse->rankings > 0);
    CHECK(sparse.sparse->chosen_blocks < sparse.sparse->middle_blocks);
  }
  const auto wrong = cluster.client().ask(request_for(about, about.questions[0], "best", 0.25));
  REQUIRE(!wrong);
  CHECK(wrong.error().context.find("kvstar_ahead") != std::string::npos);
  auto epic = request_for(about, about.questions[0], "quest", 0.25);
  epic.stitch = "epic";
  CHECK(!cluster.client().ask(epic));
  CHECK(cluster.stop() == 0);
}

TEST_CASE("a context of eight times the cache of the node that decodes is answered, its blocks on three") {
  running_cluster cluster(cluster_file(1, small_cache_bytes), 5);
  const auto about = ingest_sets(cluster, "kv_1024.jsonl", 2, true);
  CHECK(about.tokens * row_bytes >= 8 * small_cache_bytes);
  const auto dense = cluster.client().ask(request_for(about, about.questions[0], "", 0));
  REQUIRE(!dense);
  CHECK(dense.error().context.find("--retrieval") != std::string::npos);

  std::size_t right = 0;
  std::set<std::string> holders;
  const std::size_t questions = 8;
  for (std::size_t i = 0; i < questions; ++i) {
    const auto& q = about.questions[i];
    const auto answer = answer_to(cluster, request_for(about, q, "kvstar_ahead", 0.034));
    right += answer.answer.find(q.answer) != std::string::npos ? 1 : 0;
    REQUIRE(answer.sparse);
    CHECK(answer.sparse->cache_bytes <= small_cache_bytes);
    for (const auto& t : answer.transfers)
      holders.insert(t.holder);
  }
  CHECK(right >= 5);  // 6 of 8; densely 8
  CHECK(holders.size() == 3);
  CHECK(cluster.stop() == 0);
}

TEST_CASE("documents in bands are decoded sparsely over the rows that a ratio keeps") {
  for (const unsigned rankers : {1U, 2U, 3U}) {
    CAPTURE(rankers);
    running_cluster cluster(cluster_file(2, 0, rankers), 5);
    const auto about = ingest_sets(cluster, "needle_512.jsonl", 1, false, scored({}, {}));
    const auto& q = about.questions[0];
    const auto at = [&](const std::string& policy, double sparse_ratio, double ratio) {
      auto request = request_for(about, q, policy, sparse_ratio);
      request.ratio = ratio;
      return answer_to(cluster, request);
    };
    for (const double ratio : {0.2, 0.3, 1.0}) {
      CAPTURE(ratio);
      const auto dense = at("", 0, ratio);
      for (const char* policy : {"full", "kvstar", "quest", "esa", "kvstar_ahead"}) {
        CAPTURE(policy);
        const auto sparse = at(policy, 1.0, ratio);
        CHECK(sparse.tokens == dense.tokens);
        REQUIRE(sparse.sparse);
        CHECK(sparse.sparse->blocks_lost == 0);
        CHECK(sparse.misses == 0);
      }
    }
    const auto dense = at("", 0, 0.3);
    for (const char* policy : {"kvstar", "quest", "kvstar_ahead"}) {
      CAPTURE(policy);
      const auto whole = at(policy, 0.25, 1.0);
      const auto some = at(policy, 0.25, 0.3);
      REQUIRE(some.sparse);
      REQUIRE(whole.sparse);
      CHECK(some.sparse->retrieval_nodes == rankers);
      CHECK(some.sparse->chosen_blocks == whole.sparse->chosen_blocks);
      CHECK(some.sparse->blocks_lost == 0);
      CHECK(some.sparse->cache_bytes < whole.sparse->cache_bytes);
      // Each middle block passes by once for the prompt; then winners come, and of those their bands.
      const auto winners = moved_bytes(some) - std::min(moved_bytes(some), moved_bytes(dense));
      CHECK(winners < some.sparse->blocks_moved * (block_tokens * row_bytes / layers) * 6 / 10);
      CHECK(moved_bytes(some) < moved_bytes(whole) / 2);
    }
    if (rankers < 3) {
      CHECK(cluster.stop() == 0);
      continue;
    }

    // What was left out at ingest is as what is left out of a question, but for those who rank by all rows.
    const auto pruned = ingest_sets(cluster, "needle_512.jsonl", 1, false, scored(0.3, {}));
    CHECK(answer_to(cluster, request_for(pruned, q, "kvstar_ahead", 1.0)).tokens == dense.tokens);
    CHECK(refusal_of(cluster, request_for(pruned, q, "quest", 1.0)).find("kvstar_ahead") !=
          std::string::npos);
    const auto unscored = ingest_sets(cluster, "needle_512.jsonl", 1);
    auto request = request_for(unscored, q, "kvstar", 1.0);
    request.ratio = 0.3;
    CHECK(refusal_of(cluster, request).find("--importance") != std::string::npos);
    CHECK(cluster.stop() == 0);
  }
}

TEST_CASE("documents in codecs are decoded sparsely over what the codecs left of their rows") {
  for (const unsigned rankers : {1U, 2U, 3U}) {
    CAPTURE(rankers);
    running_cluster cluster(cluster_file(2, 0, rankers), 5);
    const auto raw = ingest_sets(cluster, "needle_512.jsonl", 1, false, scored({}, {}));
    const std::vector<std::vector<std::string>> codecs{
        {"int8"}, {"raw", "raw", "int8", "int8", "int8", "int4"}, {"int4"}};
    for (const auto& coding : codecs) {
      CAPTURE(coding.back());
      const auto about = ingest_sets(cluster, "needle_512.jsonl", 1, false, scored({}, coding));
      const auto at = [&](const context& documents, const std::string& policy, double sparse_ratio,
                          double ratio) {
        auto request = request_for(documents, about.questions[0], policy, sparse_ratio);
        request.ratio = ratio;
        return answer_to(cluster, request);
      };
      for (const double ratio : {0.3, 1.0}) {
        CAPTURE(ratio);
        const auto dense = at(about, "", 0, ratio);
        for (const char* policy : {"full", "kvstar", "quest", "esa", "kvstar_ahead"}) {
          CAPTURE(policy);
          const auto sparse = at(about, policy, 1.0, ratio);
          CHECK(sparse.tokens == dense.tokens);
          REQUIRE(sparse.sparse);
          CHECK(sparse.sparse->blocks_lost == 0);
          CHECK(sparse.misses == 0);
        }
        for (const char* policy : {"kvstar", "quest", "kvstar_ahead"}) {
          CAPTURE(policy);
          const auto sparse = at(about, policy, 0.25, ratio);
          REQUIRE(sparse.sparse);
          CHECK(sparse.sparse->retrieval_nodes == rankers);
          CHECK(sparse.sparse->blocks_lost == 0);
          CHECK(sparse.sparse->chosen_blocks < sparse.sparse->middle_blocks);
          if (ratio == 1.0) CHECK(moved_bytes(sparse) < moved_bytes(at(raw, policy, 0.25, ratio)));
        }
      }
    }
    CHECK(cluster.stop() == 0);
  }
}

TEST_CASE("documents get bands in the background while answers fetch their blocks, and stay ranked") {
  running_cluster cluster(cluster_file(2, 0, 3,
                                       "background_importance = \"kvzip\"\n[timing]\n"
                                       "read_deadline_ms = 150\nlease_duration_ms = 150\n"),
                          5);
  const auto about = ingest_sets(cluster, "needle_512.jsonl", 1);
  const auto count = static_cast<std::int64_t>(about.documents.size());
  const auto& q = about.questions[0];
  const auto whole = answer_to(cluster, request_for(about, q, "", 0));
  auto wandering = request_for(about, q, "kvstar_ahead", 0.25);  // for longer than former blocks are kept
  wandering.max_tokens = 1000;
  wandering.temperature = 3;
  const auto sum_of = [](const client::cluster_status& status, const std::string& name) {
    std::int64_t sum = 0;
    for (const auto& node : status.nodes)
      for (const auto& counter : node.counters)
        if (counter.name == name) sum += counter.value;
    return sum;
  };
  CHECK(cluster.wait_for(
      [&](const client::cluster_status& status) {
        const auto sparse = answer_to(cluster, wandering);
        REQUIRE(sparse.sparse);
        CHECK(sparse.sparse->blocks_lost == 0);
        CHECK(sparse.misses == 0);
        CHECK(answer_to(cluster, request_for(about, q, "kvstar_ahead", 1.0)).tokens == whole.tokens);
        return sum_of(status, "importance.done") == count &&
               std::cmp_equal(sum_of(status, "storage.blocks"), 2 * about.items);
      },
      std::chrono::seconds{120}));
  auto dense = request_for(about, q, "", 0);
  auto sparse = request_for(about, q, "kvstar_ahead", 1.0);
  dense.ratio = sparse.ratio = 0.3;
  CHECK(answer_to(cluster, sparse).tokens == answer_to(cluster, dense).tokens);
  auto chosen = request_for({}, q, "kvstar_ahead", 0.25);
  chosen.retrieve = 2;
  chosen.ratio = 0.3;
  const auto found = answer_to(cluster, chosen);
  CHECK(found.ranked_documents == about.documents.size());
  REQUIRE(found.sparse);
  CHECK(found.sparse->retrieval_nodes > 0);
  CHECK(cluster.stop() == 0);
}

TEST_CASE("a retrieval node that is killed in the middle of an answer does not end it") {
  running_cluster cluster(cluster_file(2, 0), 5);
  const auto about = ingest_sets(cluster, "needle_512.jsonl", 1);
  bool killed = false;
  auto other = cluster.connect();
  auto request = request_for(about, about.questions[0], "kvstar_ahead", 0.25);
  const auto answer = other.ask(request, [&](const client::token_piece&) {
    if (!std::exchange(killed, true)) cluster.signal("storage-2", SIGKILL);
  });
  REQUIRE_MESSAGE(answer, to_string(answer.error()));
  CHECK(killed);
  CHECK(!answer->answer.empty());
  REQUIRE(answer->sparse);
  CHECK(cluster.stop() == 0);
}

TEST_CASE("documents are chosen for a question where nobody names them") {
  running_cluster cluster(cluster_file(2, 0), 5);
  client::ask_request request;
  request.question = "Who is the engineer at Melir?";
  request.max_tokens = 8;
  request.retrieve = 2;
  const auto empty = cluster.client().ask(request);
  REQUIRE(!empty);
  CHECK(empty.error().code == errc::not_found);
  CHECK(empty.error().context.find("weft ingest") != std::string::npos);

  const auto about = ingest_sets(cluster, "needle_512.jsonl", 3);
  std::size_t right = 0;
  const std::size_t questions = 6;
  for (std::size_t i = 0; i < questions; ++i) {
    request.question = about.questions[i].question;
    const auto answer = answer_to(cluster, request);
    right += answer.answer.find(about.questions[i].answer) != std::string::npos ? 1 : 0;
    REQUIRE(answer.retrieved.size() == 2);
    CHECK(answer.ranked_documents == about.documents.size());
    CHECK(answer.unranked_documents == 0);
    CHECK(answer.retrieved[0].score >= answer.retrieved[1].score);
    // The same documents named in the order in which they were ingested: the same answer.
    auto named = request;
    named.retrieve = 0;
    for (const auto& document : about.documents)
      for (const auto& chosen : answer.retrieved)
        if (chosen.id == document) named.documents.push_back(document);
    CHECK(answer_to(cluster, named).tokens == answer.tokens);
  }
  CHECK(right >= 5);

  // Who ranked is gone: others hold copies, or read them.
  cluster.signal("storage-2", SIGKILL);
  const auto after = answer_to(cluster, request);
  CHECK(after.retrieved.size() == 2);

  auto both = request;
  both.documents = about.documents;
  CHECK(!cluster.client().ask(both));
  auto sparse = request;
  sparse.retrieval = "kvstar_ahead";
  sparse.sparse_ratio = 1;
  sparse.scale = "head_dim";
  CHECK(answer_to(cluster, sparse).sparse);
  sparse.scale = "loud";
  CHECK(!cluster.client().ask(sparse));
  CHECK(cluster.stop() == 0);
}

TEST_CASE("where no node ranks, questions that need one say so") {
  running_cluster cluster(cluster_file(1, 0, 0), 5);
  const auto about = ingest_sets(cluster, "needle_512.jsonl", 1);
  auto choosing = request_for({}, about.questions[0], "", 0);
  choosing.retrieve = 2;
  for (const auto& request : {choosing, request_for(about, about.questions[0], "kvstar", 0.25)})
    CHECK(refusal_of(cluster, request).find("the role `retrieval`") != std::string::npos);
  auto lonely = request_for(about, about.questions[0], "", 0);
  lonely.sparse_ratio = 0.5;
  CHECK(refusal_of(cluster, lonely).find("retrieval policy") != std::string::npos);
  CHECK(refusal_of(cluster, request_for(about, about.questions[0], "kvstar", 0)).find("(0, 1]") !=
        std::string::npos);
  CHECK(cluster.stop() == 0);
}
