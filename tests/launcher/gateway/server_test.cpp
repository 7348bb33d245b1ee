#include <doctest/doctest.h>

#include "scripted_backend.hpp"
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <string_view>

using namespace weft;
using launcher::gateway::server;
using launcher::gateway::server_options;
using launcher::gateway::testing::running_gateway;
using launcher::gateway::testing::scripted_backend;

namespace {

// A socket that speaks no Cap'n Proto.
class raw_socket {
 public:
  explicit raw_socket(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~raw_socket() { close(fd_); }
  raw_socket(const raw_socket&) = delete;
  raw_socket& operator=(const raw_socket&) = delete;

  void send_bytes(std::string_view bytes) const {
    REQUIRE(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }

  // Whether the other end closed, within a time that no healthy machine needs.
  bool is_closed_by_peer() const {
    const timeval patience{20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::array<char, 4096> buffer;
    for (;;) {
      const auto n = recv(fd_, buffer.data(), buffer.size(), 0);
      if (n > 0) continue;
      return n == 0 || errno == ECONNRESET;
    }
  }

 private:
  int fd_;
};

}  // namespace

TEST_CASE("status comes as the backend gave it") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto status = cluster.status();
  REQUIRE(status);
  CHECK(status->epoch == 7);
  REQUIRE(status->nodes.size() == 1);
  const auto& node = status->nodes.front();
  CHECK(node.name == "storage-1");
  CHECK(node.pid == 42);
  CHECK(node.alive);
  CHECK(node.incarnation == 0xfeedfacecafebeef);
  CHECK(node.roles == std::vector<std::string>{"storage"});
  CHECK(node.dram == schema::pool_use{1024, 4096});
  CHECK(node.file == schema::pool_use{});
  CHECK(node.peers == std::vector<schema::peer_info>{{"decode", "shm", "posix/memory", 12.5}});
  CHECK(node.counters == std::vector<schema::counter>{{"mailbox_bytes_max", 800}, {"fabric_bytes", 123456}});
}

TEST_CASE("an address in use is said to be") {
  running_gateway gateway;
  server_options options;
  options.port = gateway.server->port();
  const auto second = server::start(options, gateway.backend);
  REQUIRE(!second);
  CHECK(second.error().code == errc::io);
  CHECK(second.error().context == "the gateway's address " + gateway.server->address() +
                                      " is in use; stop what listens there or choose another port");
}

TEST_CASE("an address that is not this machine's is refused") {
  server_options options;
  options.host = "192.0.2.1";
  options.token = "secret";
  const auto started = server::start(options, std::make_shared<scripted_backend>());
  REQUIRE(!started);
  CHECK(started.error().code == errc::io);
  CHECK(started.error().context.find('\n') == std::string::npos);
}

TEST_CASE("nobody listening is unreachable, and so is no address at all") {
  std::string address;
  {
    running_gateway gateway;
    address = gateway.server->address();
  }
  const auto refused = client::connect(address);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::unreachable);
  CHECK(refused.error().context ==
        "no cluster answers at " + address +
            " (Connection refused); start one or give the address of one that runs");
  for (const std::string wrong :
       {"", "localhost", "localhost:", ":80", "a:b:80", "host:0", "host:65536", "host:8x"})
    CHECK(client::connect(wrong).error().code == errc::invalid_argument);
}

TEST_CASE("a listener that never answers is unreachable after the timeout") {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(listen(fd, 1) == 0);
  REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  client::options how;
  how.connect_timeout = std::chrono::milliseconds(50);
  const auto refused = client::connect("127.0.0.1:" + std::to_string(ntohs(address.sin_port)), how);
  close(fd);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::unreachable);
}

TEST_CASE("stopping ends calls in flight; later calls and late answers do no harm") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto address = gateway.server->address();
  client::ask_request request;
  request.question = "hold";
  std::jthread other([&] {
    if (gateway.backend->wait_for_held(1)) gateway.server->stop();
  });
  const auto answer = cluster.ask(request);
  other.join();
  REQUIRE(!answer);
  CHECK(answer.error().code == errc::unreachable);
  CHECK(answer.error().context == "the connection to the cluster at " + address + " is lost; connect again");
  CHECK(gateway.backend->wait_for_cancellation());
  gateway.backend->answer_held();
  CHECK(cluster.status().error().code == errc::unreachable);
  CHECK(gateway.server->connections() == 0);
  gateway.server->stop();
}

TEST_CASE("who does not say hello in time is shown the door, who did is not") {
  server_options options;
  options.hello_timeout = std::chrono::milliseconds(50);
  running_gateway gateway(options);
  auto cluster = gateway.connect();
  const raw_socket silent(gateway.server->port());
  CHECK(silent.is_closed_by_peer());
  CHECK(cluster.ping());
}

TEST_CASE("nonsense ends its own connection and no other") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const raw_socket http(gateway.server->port());
  http.send_bytes("GET / HTTP/1.1\r\nHost: weft\r\n\r\n");
  CHECK(http.is_closed_by_peer());
  const raw_socket greedy(gateway.server->port());
  // One segment of 4 GiB: more than any message may have.
  greedy.send_bytes(std::string_view("\0\0\0\0\xff\xff\xff\x1f", 8));
  CHECK(greedy.is_closed_by_peer());
  CHECK(cluster.ping());
}

TEST_CASE("connections are bounded") {
  server_options options;
  options.connections_max = 1;
  running_gateway gateway(options);
  auto cluster = gateway.connect();
  CHECK(client::connect(gateway.server->address()).error().code == errc::unreachable);
  CHECK(cluster.ping());
}
