// A cluster whose decode nodes answer together, each with a part of the model, in real processes.
#include <doctest/doctest.h>

#include "running_cluster.hpp"

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

using namespace weft;
using namespace weft::testing;

namespace {

constexpr const char* texts[] = {"Report of Koreth. The access code for the vault at Koreth is 4821.",
                                 "Notes of Melund. The tower at Melund is painted green.",
                                 "Letter of Tavora. Station Tavora was founded in the year 1307."};
constexpr const char* questions[] = {"What is the access code for the vault at Koreth?",
                                     "What colour is the tower at Melund?",
                                     "In which year was station Tavora founded?"};
constexpr auto patience = std::chrono::seconds{60};

// One decode node alone, or some that are a group.
std::string cluster_file(std::size_t decode_nodes) {
  std::string text = "model = \"" WEFT_SOURCE_DIR
                     "/models/recall\"\nthreads = 1\n\n[[node]]\nname = \"pool\"\n"
                     "roles = [\"prefill\", \"storage\", \"retrieval\", \"gateway\"]\ndram = \"16 MiB\"\n";
  for (std::size_t i = 1; i <= decode_nodes; ++i) {
    text += "\n[[node]]\nname = \"decode-" + std::to_string(i) + "\"\nroles = [\"decode\"]\n";
    if (decode_nodes > 1) text += "group = \"all\"\n";
  }
  return text;
}

class asked_cluster : public running_cluster {
 public:
  explicit asked_cluster(std::size_t decode_nodes)
      : running_cluster(cluster_file(decode_nodes), decode_nodes + 1) {
    for (const auto* text : texts) {
      client::ingest_request request;
      request.name = "fact";
      request.text = text;
      const auto info = client().ingest(request);
      REQUIRE_MESSAGE(info, to_string(info.error()));
      documents_.push_back(info->id);
    }
  }

  result<client::ask_result> try_to_ask(const char* question, const std::string& stitch = {}) {
    client::ask_request request;
    request.question = question;
    request.documents = documents_;
    request.stitch = stitch;
    return client().ask(request);
  }

  // The second fact comes with the question, between the documents of the others.
  std::string ask_with_text(const std::string& stitch) {
    client::ask_request request;
    request.question = questions[1];
    request.parts = {documents_[0], std::string{texts[1]}, documents_[2]};
    request.stitch = stitch;
    const auto answer = client().ask(request);
    REQUIRE_MESSAGE(answer, to_string(answer.error()));
    return answer->answer;
  }

  std::string ask(const char* question, const std::string& stitch = {}) {
    const auto answer = try_to_ask(question, stitch);
    REQUIRE_MESSAGE(answer, to_string(answer.error()));
    CHECK(answer->misses == 0);
    return answer->answer;
  }

  std::vector<std::string> ask_all() {
    std::vector<std::string> answers;
    for (const auto* question : questions)
      answers.push_back(ask(question));
    return answers;
  }

  std::int64_t counter(const std::string& name, const std::string& wanted) {
    for (const auto& c : node(name).counters)
      if (c.name == wanted) return c.value;
    return -1;
  }

  bool wait_for_ranks(std::int64_t ranks) {
    return wait_for(
        [&](const client::cluster_status& status) {
          return std::ranges::count_if(status.nodes, [&](const schema::node_status& n) {
                   const auto found = std::ranges::find(n.counters, "group.ranks", &schema::counter::name);
                   return n.alive && found != n.counters.end() && found->value == ranks;
                 }) == ranks;
        },
        patience);
  }

 private:
  std::vector<id128> documents_;
};

std::vector<std::string> answers_of_one_node() {
  asked_cluster cluster{1};
  auto answers = cluster.ask_all();
  CHECK(cluster.stop() == 0);
  return answers;
}

}  // namespace

TEST_CASE("two decode nodes answer together as one does, and one of them fetches for both") {
  const auto alone = answers_of_one_node();
  CHECK(alone == std::vector<std::string>{"4821", "green", "1307"});
  asked_cluster cluster{2};
  REQUIRE(cluster.wait_for_ranks(2));
  CHECK(cluster.ask_all() == alone);
  for (const auto* policy : {"full", "epic(4)", "blend(0.2,1)"})
    CHECK(cluster.ask(questions[0], policy) == alone[0]);
  for (const auto* policy : {"none", "epic(4)", "full"})
    CHECK(cluster.ask_with_text(policy) == alone[1]);

  const auto fetched = [&](const char* node) {
    return cluster.counter(node, "fabric.bytes_in") + cluster.counter(node, "fabric.bytes_viewed");
  };
  CHECK(fetched("decode-1") > 64 * 1024);
  CHECK(fetched("decode-2") == 0);
  CHECK(cluster.counter("decode-1", "group.rank") == 0);
  CHECK(cluster.counter("decode-2", "group.rank") == 1);

  client::ask_request sparse;
  sparse.question = questions[0];
  sparse.retrieval = "kvstar";
  const auto refused = cluster.client().ask(sparse);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::unsupported);
  CHECK(cluster.stop() == 0);
}

TEST_CASE("a group ranks documents for a question as one node does") {
  const auto choose = [](asked_cluster& cluster) {
    std::vector<client::ask_result> results;
    for (const auto* question : questions) {
      client::ask_request request;
      request.question = question;
      request.retrieve = 2;
      const auto answer = cluster.client().ask(request);
      REQUIRE_MESSAGE(answer, to_string(answer.error()));
      REQUIRE(answer->retrieved.size() == 2);
      results.push_back(*answer);
    }
    return results;
  };
  asked_cluster one{1};
  const auto alone = choose(one);
  CHECK(one.stop() == 0);
  asked_cluster cluster{2};
  REQUIRE(cluster.wait_for_ranks(2));
  const auto together = choose(cluster);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    CHECK(together[i].answer == alone[i].answer);
    CHECK(together[i].ranked_documents == std::size(texts));
    for (std::size_t place = 0; place < 2; ++place) {
      CHECK(together[i].retrieved[place].id == alone[i].retrieved[place].id);
      CHECK(together[i].retrieved[place].score ==
            doctest::Approx(alone[i].retrieved[place].score).epsilon(0.01));
    }
  }
  CHECK(cluster.stop() == 0);
}

TEST_CASE("a rank is lost: the others answer without it, and with it when it is back") {
  asked_cluster cluster{2};
  REQUIRE(cluster.wait_for_ranks(2));
  for (const std::string lost : {"decode-2", "decode-1"}) {
    CAPTURE(lost);
    const auto before = cluster.counter(lost == "decode-2" ? "decode-1" : "decode-2", "group.made");
    cluster.signal(lost, SIGKILL);
    // A question that went to the lost node itself is lost with it.
    auto answer = cluster.try_to_ask(questions[1]);
    if (!answer && answer.error().code == errc::unreachable) answer = cluster.try_to_ask(questions[1]);
    REQUIRE_MESSAGE(answer, to_string(answer.error()));
    CHECK(answer->answer == "green");
    REQUIRE(cluster.wait_for_ranks(2));
    CHECK(cluster.counter(lost == "decode-2" ? "decode-1" : "decode-2", "group.made") > before);
    CHECK(cluster.ask(questions[2]) == "1307");
  }
  CHECK(cluster.stop() == 0);
}

TEST_CASE("a frozen rank is left out until it thaws") {
  asked_cluster cluster{2};
  REQUIRE(cluster.wait_for_ranks(2));
  const auto frozen = static_cast<pid_t>(cluster.node("decode-2").pid);
  REQUIRE(kill(frozen, SIGSTOP) == 0);
  CHECK(cluster.wait_for([](const client::cluster_status& s) { return s.nodes.size() == 2; }, patience));
  CHECK(cluster.ask(questions[0]) == "4821");
  CHECK(cluster.counter("decode-1", "group.ranks") == 1);
  REQUIRE(kill(frozen, SIGCONT) == 0);
  REQUIRE(cluster.wait_for_ranks(2));
  CHECK(cluster.ask(questions[1]) == "green");
  CHECK(cluster.stop() == 0);
}
