// What only real sockets and processes show.
#include <weft/fabric/arrival.hpp>
#include <weft/fabric/wire/node_address.hpp>

#include <doctest/doctest.h>

#include "pattern.hpp"
#include "ucx_pair.hpp"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace weft::fabric::testing {

using namespace std::chrono_literals;

namespace {

node_address parsed(const std::string& address) {
  return parse_node_address(std::as_bytes(std::span{address.data(), address.size()})).value();
}

// A port that takes connections and never says a word.
class silent_port {
 public:
  silent_port() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(socket_, 8) == 0);
    socklen_t size = sizeof address;
    REQUIRE(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  silent_port(const silent_port&) = delete;
  silent_port& operator=(const silent_port&) = delete;
  ~silent_port() { close(socket_); }

  std::uint16_t port() const { return port_; }

 private:
  int socket_;
  std::uint16_t port_ = 0;
};

}  // namespace

TEST_CASE("the transport that UCX selected decides the path") {
  {
    tcp_pair pair;
    connect_pair(pair);
    CHECK(pair.here().peers()[0].transport == "tcp");
    CHECK(pair.here().peers()[0].way == path::push);
    CHECK(!moves_cuda_memory(pair.here()));  // whatever UCX was built with
  }
  {
    shared_memory_pair pair;
    connect_pair(pair);
    CHECK(pair.here().peers()[0].transport == "shm");
    CHECK(pair.here().peers()[0].way == path::get);
  }
}

TEST_CASE("a node restarted on the same port is not taken for the one before") {
  tcp_pair pair;
  auto before = std::make_unique<peer_process>("tcp", 1 << 20, true);
  const auto old_address = before->address();
  before->kill();
  const peer_process after{"tcp", 1 << 20, true, parsed(old_address).port};
  REQUIRE(parsed(after.address()).port == parsed(old_address).port);
  const auto stale = connect_to(pair, old_address);
  REQUIRE(!stale);
  CHECK(stale.error().code == errc::stale);
  CHECK(connect_to(pair, after.address()));
}

TEST_CASE("nobody at the port is unreachable, a silent one costs the timeout") {
  tcp_pair pair;
  auto address = parsed(pair.peer_address());
  address.nonce = {1, 2};
  {
    const silent_port silent;
    address.port = silent.port();
    const auto late = connect_to(pair, encode(address).value(), 200ms);
    REQUIRE(!late);
    CHECK(late.error().code == errc::deadline_exceeded);
  }
  const auto nobody = connect_to(pair, encode(address).value());
  REQUIRE(!nobody);
  CHECK(nobody.error().code == errc::unreachable);
  connect_pair(pair);
}

TEST_CASE("a remote key of nonsense does no harm") {
  tcp_pair pair;
  auto address = parsed(pair.peer_address());
  address.rkey.assign(300, std::byte{0xff});
  // The peer's own key comes with its hello; what the address says is not believed.
  const auto peer = connect_to(pair, encode(address).value());
  REQUIRE(peer);
  CHECK(fetch_now(pair, *peer, {{0, 100, 0}}).outcome);
}

TEST_CASE_TEMPLATE("whoever waits moves the transport, alone or beside others", Pair, tcp_pair,
                   shared_memory_pair, shared_memory_gets_pair) {
  Pair pair;
  const auto peer = connect_pair(pair);
  constexpr std::uint64_t bytes = 5000;
  constexpr unsigned rounds = 100;
  const auto fetch = [&](unsigned client) {
    std::mt19937_64 random{client};
    for (unsigned i = 0; i < rounds; ++i) {
      const auto from = random() % 1'000'000;
      const auto to = client * bytes;
      std::optional<fetch_report> report;
      arrival answer;
      pair.here().drive(
          [&] {
            pair.here().fetch(peer, {{from, bytes, to}}, 60s, [&](fetch_report came) {
              report = std::move(came);
              answer.come();
            });
          },
          answer);
      if (!report || !report->outcome) return false;
      if (!is_pattern(pair.here().arena().subspan(to, bytes), from)) return false;
    }
    return true;
  };
  CHECK(fetch(0));
  std::array<bool, 4> good{};
  {
    std::vector<std::jthread> clients;
    for (unsigned client = 0; client < good.size(); ++client)
      clients.emplace_back([&, client] { good[client] = fetch(client); });
    // Beside them, without driving.
    for (unsigned i = 0; i < 50; ++i)
      CHECK(fetch_now(pair, peer, {{i, 100, good.size() * bytes}}).outcome);
  }
  CHECK(std::ranges::all_of(good, std::identity{}));
  CHECK(fetch_now(pair, peer, {{1, 100, 0}}).outcome);  // nobody drives any more
}

TEST_CASE("threads register memory, land in it and let it go beside each other") {
  shared_memory_gets_pair pair;
  const auto peer = connect_pair(pair);
  const auto land = [&](unsigned client) {
    std::mt19937_64 random{client};
    for (unsigned i = 0; i < 50; ++i) {
      const auto bytes = 1 + random() % 300'000;
      const auto from = random() % 1'000'000;
      std::vector<std::byte> memory(bytes);
      auto into = pair.here().register_memory(memory, memory_kind::host).value();
      if (!land_now(pair, peer, {{from, bytes, 0}}, std::move(into)).outcome || !is_pattern(memory, from))
        return false;
    }
    return true;
  };
  std::array<bool, 4> good{};
  {
    std::vector<std::jthread> clients;
    for (unsigned client = 0; client < good.size(); ++client)
      clients.emplace_back([&, client] { good[client] = land(client); });
  }
  CHECK(std::ranges::all_of(good, std::identity{}));
}

TEST_CASE("who drives the transport lands, too") {
  shared_memory_gets_pair pair;
  const auto peer = connect_pair(pair);
  std::vector<std::byte> memory(5000);
  const auto into = pair.here().register_memory(memory, memory_kind::host).value();
  arrival answer;
  bool good = false;
  pair.here().drive(
      [&] {
        pair.here().land(peer, {{77, 5000, 0}}, into, 60s, [&](const fetch_report& report) {
          good = report.outcome.has_value();
          answer.come();
        });
      },
      answer);
  CHECK(good);
  CHECK(is_pattern(memory, 77));
}

TEST_CASE("what a driver leaves behind is moved, and ends in time") {
  tcp_pair pair;
  const auto peer = connect_pair(pair);
  pair.freeze_peer();
  const awaited<fetch_report> late{pair};
  arrival begun;
  pair.here().drive(
      [&] {
        pair.here().fetch(peer, {{0, 64, 0}}, 200ms, late.callback());
        begun.come();
      },
      begun);
  CHECK(late.get().outcome.error().code == errc::deadline_exceeded);
  pair.thaw_peer();
  CHECK(fetch_now(pair, peer, {{1, 100, 0}}).outcome);
}

TEST_CASE_TEMPLATE("a peer that dies ends what a driver waits for", Pair, tcp_pair, shared_memory_gets_pair) {
  arrival gone;
  Pair pair;
  pair.here().on_peer_down([&](peer_id, const error&) { gone.come(); });
  const auto peer = connect_pair(pair);
  pair.here().drive([&] { pair.kill_peer(); }, gone);
  CHECK(!fetch_now(pair, peer, {{0, 64, 0}}).outcome);
}

TEST_CASE("an answer that another thread brings ends a drive") {
  shared_memory_pair pair;
  connect_pair(pair);
  arrival answer;
  std::jthread elsewhere;
  pair.here().drive([&] { elsewhere = std::jthread{[&] { answer.come(); }}; }, answer);
  CHECK(answer.has_come());
}

TEST_CASE("a callback that waits for its own transport is told so") {
  shared_memory_pair pair;
  const auto peer = connect_pair(pair);
  const awaited<bool> refused{pair};
  pair.here().send(peer, 9, {}, [&, told = refused.callback()](const result<void>&) {
    arrival never;
    try {
      pair.here().drive([] {}, never);
      told(false);
    } catch (const std::logic_error&) {
      told(true);
    }
  });
  CHECK(refused.get());
}

TEST_CASE("options that cannot be met are refused with a reason") {
  ucx_options options;
  options.arena_bytes = 4096;
  options.host = "192.0.2.1";
  CHECK(make_ucx_transport(options).error().code == errc::invalid_argument);
  options.host = "no.such.host.invalid";
  CHECK(make_ucx_transport(options).error().code == errc::invalid_argument);
  options.host = "localhost";
  CHECK(make_ucx_transport(options));
  options.arena_bytes = 0;
  CHECK(make_ucx_transport(options).error().code == errc::invalid_argument);
  options.arena_bytes = 4096;
  options.chunk_bytes = 1;
  CHECK(make_ucx_transport(options).error().code == errc::invalid_argument);
  const silent_port taken;
  options = {};
  options.arena_bytes = 4096;
  options.port = taken.port();
  const auto refused = make_ucx_transport(options);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::io);
}

}  // namespace weft::fabric::testing
