// Ingest and ask under seeded delays and orders, with a node that dies: the answer is right, or there is a
// clear error in time, and never a wrong token.
#include <weft/actors/errors.hpp>

#include <doctest/doctest.h>

#include "simulated_cluster.hpp"

#include <cstdlib>

using namespace weft;
using namespace weft::simulation;
using actors::role;

namespace {

constexpr auto join_limit = std::chrono::seconds{10};
constexpr auto job_limit = std::chrono::seconds{40};

std::shared_ptr<engine::runner> recall_model() {
  engine::runner_options options;
  options.threads = 1;
  auto model = engine::runner::load(WEFT_SOURCE_DIR "/models/recall", options);
  REQUIRE_MESSAGE(model, to_string(model.error()));
  return std::make_shared<engine::runner>(std::move(*model));
}

// WEFT_SEED=n repeats one run, WEFT_SEEDS=n does that many.
std::vector<std::uint64_t> seeds(std::uint64_t usual) {
  if (const char* one = std::getenv("WEFT_SEED")) return {std::strtoull(one, nullptr, 10)};
  if (const char* many = std::getenv("WEFT_SEEDS")) usual = std::strtoull(many, nullptr, 10);
  std::vector<std::uint64_t> all;
  for (std::uint64_t seed = 1; seed <= usual; ++seed)
    all.push_back(seed);
  return all;
}

cluster_plan four_nodes(std::uint64_t seed, std::uint32_t replicas,
                        const std::shared_ptr<engine::runner>& model) {
  return {.seed = seed,
          .replicas = replicas,
          .nodes = {{"decode", {role::decode, role::gateway}},
                    {"prefill", {role::prefill}},
                    {"storage-1", {role::storage}},
                    {"storage-2", {role::storage}}},
          .model = model};
}

const char* const vault = "Report of Koreth. The access code for the vault at Koreth is 4821.";
const char* const tower = "Notes of Melund. The tower at Melund is painted green.";
const char* const asked = "What is the access code for the vault at Koreth?";
const char* const right = "4821";

struct ingested {
  std::vector<id128> documents;
};

ingested ingest_both(simulated_cluster& cluster) {
  REQUIRE(cluster.run_until([&] { return cluster.settled(); }, join_limit));
  // A node that has reached one node of each role may not have reached every node yet.
  cluster.run_until([] { return false; }, std::chrono::seconds{1});
  ingested all;
  for (const auto* text : {vault, tower}) {
    const auto done = cluster.ingest("decode", text);
    REQUIRE(cluster.run_until([&] { return done->done(); }, job_limit));
    if (done->failure) FAIL(to_string(*done->failure));
    all.documents.push_back(done->value->id);
  }
  return all;
}

std::shared_ptr<eventual<actors::answer>> ask_about(simulated_cluster& cluster, const ingested& from) {
  actors::question q;
  q.text = asked;
  q.documents = {from.documents[1], from.documents[0]};
  return cluster.ask("decode", q);
}

actors::answer answer_of(simulated_cluster& cluster, const std::shared_ptr<eventual<actors::answer>>& done) {
  REQUIRE(cluster.run_until([&] { return done->done(); }, job_limit));
  if (done->failure) FAIL(to_string(*done->failure));
  CHECK(done->value->text == right);
  return *done->value;
}

actors::answer answer_about(simulated_cluster& cluster, const ingested& from) {
  return answer_of(cluster, ask_about(cluster, from));
}

}  // namespace

TEST_CASE("documents encoded on one node answer questions on another, whatever the order of events") {
  const auto model = recall_model();
  for (const auto seed : seeds(40)) {
    CAPTURE(seed);
    simulated_cluster cluster{four_nodes(seed, 1, model)};
    const auto from = ingest_both(cluster);
    const auto got = answer_about(cluster, from);
    CHECK(got.misses == 0);
    CHECK(got.recomputed_rows == 0);
  }
}

std::uint64_t bytes_by(const actors::answer& got, const std::string& path) {
  std::uint64_t bytes = 0;
  for (const auto& t : got.transfers)
    bytes += t.path == path ? t.bytes : 0;
  return bytes;
}

TEST_CASE("decode reads blocks where their holders have them, and copies where a view ended too early") {
  const auto model = recall_model();
  for (const auto seed : seeds(6)) {
    CAPTURE(seed);
    auto plan = four_nodes(seed, 1, model);
    if (seed % 2 == 0) plan.lease_duration = std::chrono::milliseconds{0};
    simulated_cluster cluster{plan};
    const auto from = ingest_both(cluster);
    const auto got = answer_about(cluster, from);
    CHECK(got.misses == 0);
    CHECK(bytes_by(got, "view") > 0);
    CHECK(bytes_by(got, "get") == (seed % 2 == 0 ? bytes_by(got, "view") : 0));
    cluster.run_until([] { return false; }, std::chrono::seconds{1});
    const auto storage = seed % 2 == 0 ? "storage-1" : "storage-2";
    const auto report = cluster.report(storage);
    REQUIRE(cluster.run_until([&] { return report->done(); }, job_limit));
    for (const auto& c : report->value->counters)
      if (c.name == "storage.leases") CHECK(c.value == 0);
  }
}

TEST_CASE("the same seed gives the same run") {
  const auto model = recall_model();
  const auto run = [&](std::uint64_t seed) {
    simulated_cluster cluster{four_nodes(seed, 2, model)};
    ingest_both(cluster);
    return std::pair{cluster.trace_digest(), cluster.now()};
  };
  CHECK(run(7) == run(7));
  CHECK(run(7) != run(8));
}

TEST_CASE("with two replicas a storage node may die at any moment") {
  const auto model = recall_model();
  for (const auto seed : seeds(40)) {
    CAPTURE(seed);
    simulated_cluster cluster{four_nodes(seed, 2, model)};
    const auto from = ingest_both(cluster);
    const auto done = ask_about(cluster, from);
    cluster.run_until([&] { return done->done(); }, std::chrono::microseconds{seed * 700});
    cluster.kill(seed % 2 == 0 ? "storage-1" : "storage-2");
    answer_of(cluster, done);
    CHECK(answer_about(cluster, from).misses == 0);
  }
}

// CAF's connections do not survive that two nodes connect to each other at once.
TEST_CASE("of two nodes only one connects to the other, whoever dies and comes back") {
  const auto model = recall_model();
  for (const auto seed : seeds(5)) {
    CAPTURE(seed);
    simulated_cluster cluster(four_nodes(seed, 1, model));
    const auto settled = [&] { return cluster.settled(); };
    REQUIRE(cluster.run_until(settled, join_limit));
    for (const auto* name : {"decode", "storage-2"}) {  // the first candidate, and the last
      cluster.kill(name);
      cluster.run_until([] { return false; }, std::chrono::seconds{3});
      cluster.restart(name);
      REQUIRE(cluster.run_until(settled, join_limit));
    }
    CHECK(cluster.connections().size() == 6);
    for (const auto& connection : cluster.connections()) {
      CAPTURE(connection.first);
      CAPTURE(connection.second);
      CHECK_FALSE(cluster.connections().contains({connection.second, connection.first}));
    }
  }
}

TEST_CASE("the encoding node may die after ingest") {
  const auto model = recall_model();
  for (const auto seed : seeds(10)) {
    CAPTURE(seed);
    simulated_cluster cluster{four_nodes(seed, 1, model)};
    const auto from = ingest_both(cluster);
    cluster.kill("prefill");
    CHECK(answer_about(cluster, from).misses == 0);
  }
}

TEST_CASE("blocks whose only holder died are computed anew from the manifest's tokens") {
  const auto model = recall_model();
  for (const auto seed : seeds(20)) {
    CAPTURE(seed);
    simulated_cluster cluster{four_nodes(seed, 1, model)};
    const auto from = ingest_both(cluster);
    cluster.kill(seed % 2 == 0 ? "storage-1" : "storage-2");
    answer_about(cluster, from);
  }
}

TEST_CASE("every stitching policy answers out of the pool, and says how many rows it computed") {
  const auto model = recall_model();
  simulated_cluster cluster{four_nodes(5, 1, model)};
  const auto from = ingest_both(cluster);
  const auto answer_with = [&](const char* policy) {
    actors::question q;
    q.text = asked;
    q.stitch = policy;
    q.documents = {from.documents[1], from.documents[0], from.documents[1]};  // one of them twice
    return answer_of(cluster, cluster.ask("decode", q));
  };
  const auto full = answer_with("full");
  CHECK(answer_with("none").recomputed_rows == 0);
  CHECK(answer_with("epic(4)").recomputed_rows == 12);
  CHECK(answer_with("blend(0.25,1)").recomputed_rows == (full.recomputed_rows + 2) / 4);
  CHECK(answer_with("random(0.5)").recomputed_rows == (full.recomputed_rows + 1) / 2);
  // Nothing is read that would be computed from its first to its last row.
  const auto whole = answer_with("epic(1000)");
  CHECK(whole.recomputed_rows == full.recomputed_rows);
  CHECK(whole.transfers.empty());
  CHECK(whole.misses == 0);
}

TEST_CASE("an answer with recomputed rows does not depend on which blocks were lost") {
  const auto model = recall_model();
  for (const auto seed : seeds(6)) {
    CAPTURE(seed);
    simulated_cluster cluster{four_nodes(seed, 1, model)};
    const auto from = ingest_both(cluster);
    const auto answers = [&] {
      std::vector<std::vector<std::int32_t>> tokens;
      for (const char* policy : {"epic(4)", "blend(0.2)"}) {
        actors::question q;
        q.text = asked;
        q.stitch = policy;
        q.documents = {from.documents[1], from.documents[0]};
        tokens.push_back(answer_of(cluster, cluster.ask("decode", q)).tokens);
      }
      return tokens;
    };
    const auto before = answers();
    cluster.kill(seed % 2 == 0 ? "storage-1" : "storage-2");
    CHECK(answers() == before);
  }
}

TEST_CASE("a policy that there is not, or that the model has not learned, is refused in one line") {
  const auto model = recall_model();
  simulated_cluster cluster{four_nodes(5, 1, model)};
  const auto from = ingest_both(cluster);
  for (const auto& refused :
       std::vector<std::pair<const char*, const char*>>{{"nonsense", "supported: none, link(K)"},
                                                        {"epic(x)", "epic(x)"},
                                                        {"link(5)", "trained without link tokens"},
                                                        {"blend(0.1,4)", "layer 0 to 3"}}) {
    CAPTURE(refused.first);
    actors::question q;
    q.text = asked;
    q.stitch = refused.first;
    q.documents = from.documents;
    const auto done = cluster.ask("decode", q);
    REQUIRE(cluster.run_until([&] { return done->done(); }, job_limit));
    REQUIRE(done->failure);
    CHECK(done->failure->context.find(refused.second) != std::string::npos);
    CHECK(done->failure->context.find('\n') == std::string::npos);
  }
}

TEST_CASE("when every holder is dead there is a clear error within the deadline") {
  const auto model = recall_model();
  simulated_cluster cluster{four_nodes(3, 2, model)};
  const auto from = ingest_both(cluster);
  cluster.kill("storage-1");
  cluster.kill("storage-2");
  const auto done = ask_about(cluster, from);
  const auto before = cluster.now();
  REQUIRE(cluster.run_until([&] { return done->done(); }, job_limit));
  REQUIRE(done->failure);
  CHECK(cluster.now() - before < std::chrono::seconds{3});
  CHECK(done->failure->context.find("manifest") != std::string::npos);
}
