#include <doctest/doctest.h>

#include "in_process_pair.hpp"

#include <string>
#include <vector>

namespace weft::fabric::testing {

using namespace std::chrono_literals;

namespace {

// Everything that happens in one run of the same calls.
std::string trace_of(std::uint64_t seed) {
  in_process_network network{{.seed = seed}};
  std::vector<std::unique_ptr<transport>> nodes;
  for (int i = 0; i < 3; ++i)
    nodes.push_back(network.add_node(1 << 20));
  std::string trace;
  const auto note = [&](const std::string& what) {
    trace += std::to_string(network.now().time_since_epoch().count()) + " " + what + "\n";
  };
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    auto& node = *nodes[i];
    node.on_message(1, [&note, i](peer_id from, std::span<const std::byte> payload) {
      note(std::to_string(i) + " heard " + std::to_string(payload.size()) + " of " +
           std::to_string(static_cast<std::uint32_t>(from)));
    });
    for (auto& other : nodes)
      node.connect(other->address(), 1s, [&, i](const result<peer_id>& peer) {
        note(std::to_string(i) + (peer ? " connected" : " failed"));
        if (!peer) return;
        for (std::size_t n = 1; n < 5; ++n)
          node.send(*peer, 1, std::vector<std::byte>(n), {});
        node.fetch(*peer, {{0, 300'000, 0}}, 1s, [&note, i](const fetch_report& report) {
          note(std::to_string(i) + " fetched " + std::to_string(report.bytes));
        });
      });
  }
  while (network.step()) {
  }
  return trace;
}

}  // namespace

TEST_CASE("the same seed gives the same run, another one another") {
  const auto first = trace_of(5);
  CHECK(first == trace_of(5));
  CHECK(first != trace_of(6));
  CHECK(first.find("fetched 300000") != std::string::npos);
}

TEST_CASE("nothing happens but in a step, and time is the network's") {
  in_process_pair pair{path::get};
  bool connected = false;
  const auto before = pair.network().now();
  pair.here().connect(pair.peer_address(), 1s,
                      [&](const result<peer_id>& peer) { connected = peer.has_value(); });
  CHECK(!connected);
  CHECK(pair.network().now() == before);
  pair.network().advance(5ms);
  CHECK(connected);
  CHECK(pair.network().now() == before + 5ms);
}

TEST_CASE("a partition swallows what crosses until it heals") {
  in_process_pair pair{path::get};
  const auto peer = connect_pair(pair);
  pair.network().partition(pair.here().address(), pair.peer_address());
  int echoes = 0;
  pair.here().on_message(echo_answer_channel, [&](peer_id, std::span<const std::byte>) { ++echoes; });
  pair.here().send(peer, echo_channel, std::vector<std::byte>(4), {});
  const auto before = pair.network().now();
  const auto report = fetch_now(pair, peer, {{0, 10, 0}}, 20ms);
  REQUIRE(!report.outcome);
  CHECK(report.outcome.error().code == errc::deadline_exceeded);
  CHECK(pair.network().now() == before + 20ms);
  CHECK(echoes == 0);
  pair.network().heal(pair.peer_address(), pair.here().address());
  CHECK(pair.wait_for([&] { return echoes == 1; }));
  CHECK(fetch_now(pair, peer, {{0, 10, 0}}).outcome);
}

TEST_CASE("a landing out of a partition ends at its timeout, and nothing lands when it heals") {
  in_process_pair pair{path::get, false, {}, false};
  const auto peer = connect_pair(pair);
  std::vector<std::byte> memory(1000);
  const auto into = pair.here().register_memory(memory, memory_kind::host).value();
  pair.network().partition(pair.here().address(), pair.peer_address());
  const auto before = pair.network().now();
  const auto landed = land_now(pair, peer, {{0, 1000, 0}}, into, 20ms);
  REQUIRE(!landed.outcome);
  CHECK(landed.outcome.error().code == errc::deadline_exceeded);
  CHECK(pair.network().now() == before + 20ms);
  pair.network().heal(pair.peer_address(), pair.here().address());
  pair.network().advance(1s);
  CHECK(all_equal(memory, std::byte{0}));
}

TEST_CASE("connecting into a partition ends at the timeout") {
  in_process_pair pair{path::get};
  pair.network().partition(pair.here().address(), pair.peer_address());
  const auto peer = connect_to(pair, pair.peer_address(), 30ms);
  REQUIRE(!peer);
  CHECK(peer.error().code == errc::deadline_exceeded);
}

TEST_CASE("a node that comes back is another one") {
  in_process_network network{{.seed = 2}};
  auto reader = network.add_node(4096);
  auto owner = network.add_node(4096);
  const auto old_address = owner->address();
  owner.reset();
  owner = network.add_node(4096);
  CHECK(owner->address() != old_address);
  result<peer_id> old_peer;
  result<peer_id> new_peer;
  reader->connect(old_address, 1s, [&](const result<peer_id>& peer) { old_peer = peer; });
  reader->connect(owner->address(), 1s, [&](const result<peer_id>& peer) { new_peer = peer; });
  network.advance(10ms);
  REQUIRE(!old_peer);
  CHECK(old_peer.error().code == errc::unreachable);
  CHECK(new_peer);
}

TEST_CASE("a long fetch reads an arena that changes meanwhile, as real ones do") {
  in_process_network network{{.seed = 3, .bytes_per_second = 100'000'000}};
  auto reader = network.add_node(1 << 20);
  auto owner = network.add_node(1 << 20);
  result<peer_id> peer;
  reader->connect(owner->address(), 1s, [&](const result<peer_id>& connected) { peer = connected; });
  network.advance(1ms);
  REQUIRE(peer);
  bool done = false;
  reader->fetch(*peer, {{0, 1 << 20, 0}}, 1s,
                [&](const fetch_report& report) { done = report.outcome.has_value(); });
  network.advance(5ms);
  std::fill(owner->arena().begin(), owner->arena().end(), std::byte{1});
  network.advance(20ms);
  REQUIRE(done);
  const auto arena = reader->arena();
  CHECK(arena.front() == std::byte{0});
  CHECK(arena.back() == std::byte{1});
}

}  // namespace weft::fabric::testing
