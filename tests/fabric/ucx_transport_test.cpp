// What only real sockets and processes show.
#include <weft/fabric/wire/node_address.hpp>

#include <doctest/doctest.h>

#include "ucx_pair.hpp"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

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
