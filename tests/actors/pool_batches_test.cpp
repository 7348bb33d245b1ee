// One read of many blocks from several holders: one answer with a result for each, whatever becomes of a
// holder meanwhile. And how many holders a block has.
#include <weft/actors/node_config.hpp>
#include <weft/block/layout.hpp>

#include <doctest/doctest.h>

#include "simulated_cluster.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <string>

using namespace weft;
using namespace weft::simulation;
using actors::role;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::size_t batch_blocks = 40;
constexpr std::size_t payload_bytes = 20'000;
const std::array<std::string, 5> names{"a", "b", "c", "d", "e"};

id128 key_of(std::uint64_t number) {
  return {0x9e3779b97f4a7c15ULL * (number + 1), number + 1};
}

std::vector<std::byte> payload_of(std::uint64_t number) {
  std::vector<std::byte> bytes(payload_bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(number * 31 + i * 7);
  return bytes;
}

cluster_plan storage_of_five(std::uint64_t seed, std::uint32_t replicas) {
  cluster_plan plan{.seed = seed, .replicas = replicas, .nodes = {}};
  for (const auto& name : names)
    plan.nodes.push_back({name, {role::storage}});
  return plan;
}

class batch_reader {
 public:
  explicit batch_reader(cluster_plan plan) : cluster_(std::move(plan)) {
    REQUIRE(cluster_.run_until([&] { return cluster_.settled(); }, seconds{20}));
    pass(milliseconds{500});
    for (std::size_t n = 0; n < batch_blocks; ++n) {
      keys_.push_back(key_of(n));
      const auto done = cluster_.put("b", keys_.back(), payload_of(n));
      REQUIRE(cluster_.run_until([&] { return done->done(); }, seconds{10}));
      REQUIRE(done->value);
      REQUIRE((*done->value)->blocks[0]);
    }
  }

  void pass(duration time) {
    cluster_.run_until([] { return false; }, time);
  }

  // By block, the nodes that hold it.
  std::vector<std::set<std::string>> holders() {
    std::vector<std::set<std::string>> found(keys_.size());
    for (const auto& name : names) {
      if (!cluster_.alive(name)) continue;
      const auto reply = cluster_.lease(name, keys_);
      REQUIRE(cluster_.run_until([&] { return reply->done(); }, seconds{5}));
      REQUIRE(reply->value);
      for (std::size_t n = 0; n < keys_.size(); ++n)
        if (reply->value->slots[n].outcome == errc::ok) found[n].insert(name);
    }
    return found;
  }

  bool all_have(std::size_t copies) {
    return std::ranges::all_of(holders(), [&](const auto& of) { return of.size() == copies; });
  }

  std::shared_ptr<eventual<actors::read_outcome>> begin(bool in_place = false) {
    return cluster_.get("a", keys_, in_place);
  }

  // Of a read that must end within its deadline: which blocks came. What came is what was put.
  std::set<std::size_t> end(const std::shared_ptr<eventual<actors::read_outcome>>& read) {
    REQUIRE(cluster_.run_until([&] { return read->done(); }, milliseconds{1100}));
    REQUIRE(read->value);
    std::set<std::size_t> came;
    const auto& blocks = (*read->value)->blocks;
    REQUIRE(blocks.size() == keys_.size());
    for (std::size_t n = 0; n < blocks.size(); ++n) {
      if (!blocks[n].outcome) continue;
      const auto parsed = block::view::parse(blocks[n].bytes->bytes());
      REQUIRE(parsed);
      const auto expected = payload_of(n);
      REQUIRE(std::ranges::equal(parsed->payload(), expected));
      came.insert(n);
    }
    return came;
  }

  simulated_cluster& cluster() { return cluster_; }

 private:
  simulated_cluster cluster_;
  std::vector<id128> keys_;
};

std::set<std::size_t> held_elsewhere(const std::vector<std::set<std::string>>& holders,
                                     const std::string& name) {
  std::set<std::size_t> numbers;
  for (std::size_t n = 0; n < holders.size(); ++n)
    if (holders[n] != std::set{name}) numbers.insert(n);
  return numbers;
}

}  // namespace

TEST_CASE("one read brings blocks of several holders") {
  batch_reader run(storage_of_five(11, 1));
  std::set<std::string> used;
  for (const auto& of : run.holders())
    used.insert(of.begin(), of.end());
  CHECK(used.size() == names.size());
  const auto first = run.begin();
  CHECK(run.end(first).size() == batch_blocks);
  CHECK((*first->value)->transfers.size() >= names.size() - 1);
  CHECK(run.end(run.begin(true)).size() == batch_blocks);
}

TEST_CASE("a holder that dies in the middle of a read costs its blocks, or nothing where others hold them") {
  for (const std::uint32_t replicas : {1U, 2U}) {
    for (const int under_way_us : {0, 100, 300, 1000, 3000}) {
      CAPTURE(replicas);
      CAPTURE(under_way_us);
      batch_reader run(storage_of_five(12, replicas));
      const auto elsewhere = held_elsewhere(run.holders(), "d");
      REQUIRE((elsewhere.size() < batch_blocks) == (replicas == 1));
      const auto read = run.begin();
      run.pass(std::chrono::microseconds{under_way_us});
      run.cluster().kill("d");
      const auto came = run.end(read);
      CHECK(std::ranges::includes(came, elsewhere));
    }
  }
}

TEST_CASE("a frozen holder costs its blocks by the deadline, or nothing where others hold them") {
  for (const std::uint32_t replicas : {1U, 2U}) {
    CAPTURE(replicas);
    batch_reader run(storage_of_five(13, replicas));
    const auto elsewhere = held_elsewhere(run.holders(), "c");
    run.cluster().freeze("c");
    CHECK(std::ranges::includes(run.end(run.begin()), elsewhere));
    run.cluster().thaw("c");
    run.pass(seconds{3});
    CHECK(run.end(run.begin()).size() == batch_blocks);
  }
}

TEST_CASE("the namespace says how many copies there are, also after a loss") {
  auto plan = storage_of_five(14, 1);
  plan.tenant_replicas = {{"default", 3}, {"another", 2}};
  batch_reader run(plan);
  CHECK(run.all_have(3));
  run.cluster().kill("e");
  bool again = false;
  for (int s = 0; s < 30 && !again; ++s) {
    run.pass(seconds{1});
    again = run.all_have(3);
  }
  CHECK(again);
}
