// Real processes that are killed and frozen: the answer is right, or a clear error comes in time; never a
// wrong token.
#include <doctest/doctest.h>

#include "running_cluster.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <numeric>

using namespace weft;
using namespace weft::testing;

namespace {

struct fact {
  const char* text;
  const char* question;
  const char* answer;
};

constexpr fact facts[] = {
    {"Report of Koreth. The access code for the vault at Koreth is 4821.",
     "What is the access code for the vault at Koreth?", "4821"},
    {"Notes of Melund. The tower at Melund is painted green.", "What colour is the tower at Melund?",
     "green"},
    {"Letter of Tavora. Station Tavora was founded in the year 1307.",
     "In which year was station Tavora founded?", "1307"},
    {"Diary of Linane. The access code for the cellar at Linane is 0936.",
     "What is the access code for the cellar at Linane?", "0936"},
};

std::vector<id128> ingest_all(running_cluster& cluster, std::size_t holders) {
  std::vector<id128> ids;
  for (const auto& f : facts) {
    client::ingest_request request;
    request.name = "fact";
    request.text = f.text;
    const auto info = cluster.client().ingest(request);
    REQUIRE_MESSAGE(info, to_string(info.error()));
    CHECK(info->holders.size() >= holders);
    ids.insert(ids.begin(), info->id);
  }
  return ids;
}

result<client::ask_result> ask(running_cluster& cluster, const std::vector<id128>& documents, const fact& f,
                               const std::string& stitch = {}) {
  client::ask_request request;
  request.stitch = stitch;
  request.question = f.question;
  request.documents = documents;
  return cluster.client().ask(request);
}

void check_all_answers(running_cluster& cluster, const std::vector<id128>& documents) {
  for (const auto& f : facts) {
    CAPTURE(f.question);
    const auto answer = ask(cluster, documents, f);
    REQUIRE_MESSAGE(answer, to_string(answer.error()));
    CHECK(answer->answer == f.answer);
  }
}

std::int64_t counter(const schema::node_status& node, const std::string& name) {
  for (const auto& c : node.counters) {
    if (c.name == name) return c.value;
  }
  return -1;
}

std::uint64_t bytes_of(const client::ask_result& answer) {
  return std::accumulate(answer.transfers.begin(), answer.transfers.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const client::transfer_info& t) { return sum + t.bytes; });
}

constexpr auto in_time = std::chrono::seconds{10};
constexpr auto patience = std::chrono::seconds{60};

}  // namespace

TEST_CASE("two replicas: the encoding node and a holder are killed, every question is still answered") {
  running_cluster cluster{2};
  const auto documents = ingest_all(cluster, 2);

  SUBCASE("and bulk bytes cross by the fabric only, no mailbox message is large") {
    const auto before = cluster.node("decode");
    const auto answer = ask(cluster, documents, facts[0]);
    REQUIRE(answer);
    CHECK(answer->answer == facts[0].answer);
    CHECK(bytes_of(*answer) > 64 * 1024);
    const auto after = cluster.node("decode");
    const auto more = [&](const char* name) { return counter(after, name) - counter(before, name); };
    const auto bytes = static_cast<std::int64_t>(bytes_of(*answer));
    CHECK(more("fabric.bytes_viewed") >= bytes);
    CHECK(more("fabric.bytes_in") < bytes);  // one host: no block was copied
    for (const auto& transfer : answer->transfers)
      CHECK(transfer.path == "view");
    for (const auto* name : {"prefill", "storage-1", "storage-2", "decode"}) {
      const auto node = cluster.node(name);
      CHECK(counter(node, "mailbox.largest_bytes") > 0);
      CHECK(counter(node, "mailbox.largest_bytes") <= 1 << 20);
      CHECK(counter(node, "mailbox.bytes") < static_cast<std::int64_t>(bytes_of(*answer)));
    }
  }
  SUBCASE("and every stitching policy answers, with its share of computed rows") {
    const auto full = ask(cluster, documents, facts[0], "full");
    REQUIRE_MESSAGE(full, to_string(full.error()));
    for (const auto* policy : {"epic(4)", "blend(0.2,1)", "random(0.2)"}) {
      const auto answer = ask(cluster, documents, facts[0], policy);
      CAPTURE(policy);
      REQUIRE_MESSAGE(answer, to_string(answer.error()));
      CHECK(answer->answer == facts[0].answer);
      CHECK(answer->recomputed_rows > 0);
      CHECK(answer->recomputed_rows < full->recomputed_rows / 2);
      CHECK(bytes_of(*answer) > 64 * 1024);
    }
    const auto refused = ask(cluster, documents, facts[0], "link(5)");
    REQUIRE(!refused);
    CHECK(refused.error().context.find("trained without link tokens") != std::string::npos);
  }
  SUBCASE("and a text among documents is read like one, by every policy") {
    client::ask_request request;
    request.question = facts[1].question;
    request.parts = {documents[0], std::string{facts[1].text}, documents[1]};
    for (const auto* policy : {"none", "epic(4)", "blend(0.2,1)", "random(0.2)", "full"}) {
      CAPTURE(policy);
      request.stitch = policy;
      const auto answer = cluster.client().ask(request);
      REQUIRE_MESSAGE(answer, to_string(answer.error()));
      CHECK(answer->answer == facts[1].answer);
    }
    request.documents = documents;
    const auto refused = cluster.client().ask(request);
    REQUIRE(!refused);
    CHECK(refused.error().context.find("not in both") != std::string::npos);
  }
  SUBCASE("and a system text is computed for the first question alone") {
    client::ask_request request;
    request.question = facts[0].question;
    request.documents = documents;
    for (int i = 0; i < 130; ++i)
      request.system += "Answer with one word and say nothing that the documents do not say. ";
    const auto first = cluster.client().ask(request);
    REQUIRE_MESSAGE(first, to_string(first.error()));
    CHECK(first->reused_rows == 0);
    CHECK(first->computed_rows > 2000);
    const auto again = cluster.client().ask(request);
    REQUIRE_MESSAGE(again, to_string(again.error()));
    CHECK(again->tokens == first->tokens);
    CHECK(again->reused_rows > 2000);
    CHECK(again->computed_rows < 100);
    CHECK(again->compute_ms < first->compute_ms);
  }
  SUBCASE("kill -9") {
    cluster.signal("prefill", SIGKILL);
    check_all_answers(cluster, documents);
    cluster.signal("storage-1", SIGKILL);
    check_all_answers(cluster, documents);
  }
  SUBCASE("a frozen holder costs time, not answers, and joins again when it thaws") {
    const auto before = cluster.node("storage-2");
    cluster.signal("storage-2", SIGSTOP);
    const auto start = std::chrono::steady_clock::now();
    check_all_answers(cluster, documents);
    CHECK(std::chrono::steady_clock::now() - start < in_time);
    const auto gone = [](const client::cluster_status& s) { return s.nodes.size() == 3; };
    CHECK(cluster.wait_for(gone, in_time));
    REQUIRE(kill(static_cast<pid_t>(before.pid), SIGCONT) == 0);
    CHECK(cluster.wait_for(
        [&](const client::cluster_status& s) {
          return std::any_of(s.nodes.begin(), s.nodes.end(), [&](const schema::node_status& n) {
            return n.name == "storage-2" && n.alive && n.incarnation > before.incarnation;
          });
        },
        in_time));
    check_all_answers(cluster, documents);
  }
  CHECK(cluster.stop() == 0);
}

TEST_CASE("the node that holds the membership is lost: the next of the file takes over") {
  running_cluster cluster{2};
  const auto documents = ingest_all(cluster, 2);
  const auto first = cluster.node("prefill");
  const auto in_a_later_life = [](const std::string& name, std::uint64_t incarnation) {
    return [=](const client::cluster_status& s) {
      return s.nodes.size() == 4 && std::any_of(s.nodes.begin(), s.nodes.end(), [&](const auto& n) {
               return n.name == name && n.alive && n.incarnation > incarnation;
             });
    };
  };

  SUBCASE("by kill -9; it comes back as a member") {
    cluster.signal("prefill", SIGKILL);
    check_all_answers(cluster, documents);
    CHECK(cluster.wait_for(in_a_later_life("prefill", first.incarnation), std::chrono::seconds{30}));
    check_all_answers(cluster, documents);
    CHECK(ingest_all(cluster, 2) == documents);
  }
  SUBCASE("frozen; others join meanwhile, and it finds itself fenced when it thaws") {
    cluster.signal("prefill", SIGSTOP);
    check_all_answers(cluster, documents);
    CHECK(cluster.wait_for([](const client::cluster_status& s) { return s.nodes.size() == 3; }, in_time));
    const auto holder = cluster.node("storage-2");
    cluster.signal("storage-2", SIGKILL);
    check_all_answers(cluster, documents);
    CHECK(cluster.wait_for(
        [&](const client::cluster_status& s) {
          return std::any_of(s.nodes.begin(), s.nodes.end(), [&](const auto& n) {
            return n.name == "storage-2" && n.alive && n.incarnation > holder.incarnation;
          });
        },
        std::chrono::seconds{30}));
    REQUIRE(kill(static_cast<pid_t>(first.pid), SIGCONT) == 0);
    CHECK(cluster.wait_for(in_a_later_life("prefill", first.incarnation), in_time));
    check_all_answers(cluster, documents);
  }
  CHECK(cluster.stop() == 0);
}

TEST_CASE("a file tier: every holder is killed and comes back with its blocks") {
  running_cluster cluster{1, running_cluster::tiers::memory_and_file};
  const auto documents = ingest_all(cluster, 1);
  const auto sum = [](const client::cluster_status& s, const std::string& name) {
    return std::accumulate(s.nodes.begin(), s.nodes.end(), std::int64_t{0},
                           [&](std::int64_t all, const schema::node_status& n) {
                             return all + std::max<std::int64_t>(0, counter(n, name));
                           });
  };
  std::int64_t blocks = 0;
  REQUIRE(cluster.wait_for(
      [&](const client::cluster_status& s) {
        blocks = sum(s, "storage.blocks");
        return blocks >= 8 && sum(s, "file.blocks") == blocks;
      },
      in_time));
  CHECK(cluster.node("storage-1").file.capacity_bytes == 32 << 20);
  CHECK(cluster.node("storage-1").file.used_bytes > 0);

  cluster.signal("storage-1", SIGKILL);
  cluster.signal("storage-2", SIGKILL);
  REQUIRE(cluster.wait_for(
      [&](const client::cluster_status& s) { return sum(s, "file.recovered") == blocks; }, patience));
  for (const auto& f : facts) {
    std::uint64_t misses = 1;
    // Until the directory knows what came back, blocks are computed.
    const auto answered_from_the_pool = [&](const client::cluster_status&) {
      const auto answer = ask(cluster, documents, f);
      if (!answer) return false;
      CHECK(answer->answer == f.answer);
      misses = answer->misses;
      return misses == 0;
    };
    CHECK(cluster.wait_for(answered_from_the_pool, patience));
  }
  REQUIRE(
      cluster.wait_for([&](const client::cluster_status& s) { return sum(s, "file.read") > 0; }, in_time));
  CHECK(sum(*cluster.client().status(), "file.corrupt") == 0);
  CHECK(cluster.stop() == 0);
}

TEST_CASE("one replica: what only the dead held is computed anew, or refused in time") {
  running_cluster cluster{1};
  const auto documents = ingest_all(cluster, 1);

  SUBCASE("one of two storage nodes is killed: the manifests know the tokens") {
    cluster.signal("storage-1", SIGKILL);
    check_all_answers(cluster, documents);
  }
  SUBCASE("both are killed: a clear error") {
    cluster.signal(std::vector<std::string>{"storage-1", "storage-2"}, SIGKILL);
    const auto start = std::chrono::steady_clock::now();
    const auto answer = ask(cluster, documents, facts[0]);
    CHECK(std::chrono::steady_clock::now() - start < in_time);
    REQUIRE(!answer);
    CHECK(!answer.error().context.empty());
  }
  CHECK(cluster.stop() == 0);
}

TEST_CASE("bad input is refused by name and the cluster goes on") {
  running_cluster cluster{1};
  const auto refused = [&](const std::string& text, errc code) {
    client::ingest_request request;
    request.name = "odd.txt";
    request.text = text;
    const auto info = cluster.client().ingest(request);
    REQUIRE(!info);
    CHECK(info.error().code == code);
    CHECK(info.error().context.find('\n') == std::string::npos);
  };
  refused("", errc::invalid_argument);
  refused(std::string(10'000'000, 'a') + " end", errc::invalid_argument);

  const auto unknown = ask(cluster, {id128{1, 2}}, facts[0]);
  REQUIRE(!unknown);
  CHECK(unknown.error().code == errc::not_found);

  const auto documents = ingest_all(cluster, 1);
  std::string endless = "What is";
  for (int i = 0; i < 5000; ++i)
    endless += " the vault";
  const auto too_long = ask(cluster, documents, {"", endless.c_str(), ""});
  REQUIRE(!too_long);
  CHECK(too_long.error().code == errc::invalid_argument);

  client::ingest_request broken_utf8;
  broken_utf8.text = std::string{"Notes of Melund. \xff\xfe\x80 The tower at Melund is painted green."};
  CHECK(cluster.client().ingest(broken_utf8));
  check_all_answers(cluster, documents);

  SUBCASE("blocks of other engines come back as they were put") {
    std::vector<std::byte> bytes(300'000);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>(i * 7);
    const id128 key{7, 9};
    const client::block_layout layout{
        .descriptor = "engine x, layout y", .fingerprint = {3, 4}, .tokens = 64};
    CHECK(!cluster.client().get(key));
    REQUIRE(cluster.client().put(key, layout, bytes));
    const auto got = cluster.client().get(key);
    REQUIRE(got);
    CHECK(got->bytes == bytes);
    CHECK(got->layout.descriptor == layout.descriptor);
    CHECK(got->layout.tokens == layout.tokens);
    const auto found = cluster.client().lookup(std::array{key, id128{8, 8}});
    REQUIRE(found);
    CHECK((*found)[0].present);
    CHECK((*found)[0].bytes >= bytes.size());
    CHECK(!(*found)[1].present);
  }
  CHECK(cluster.stop() == 0);
}
