#include <weft/launcher/gateway/server.hpp>
#include <weft/schema/event_thread.hpp>

#include <capnp/rpc-twoparty.h>
#include <spdlog/spdlog.h>

#include "service.hpp"
#include "session.hpp"
#include "token.hpp"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <future>
#include <string_view>

namespace weft::launcher::gateway {
namespace {

constexpr std::uint64_t message_bytes_max = 4u << 20;
constexpr std::size_t flow_bytes_max = 16u << 20;  // of calls that a connection has not been answered

// A peer that vanished without a word is noticed within a minute.
void keep_alive(kj::AsyncIoStream& stream) {
  const auto set = [&](int level, int option, int value) {
    stream.setsockopt(level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

capnp::ReaderOptions reader_options() {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = message_bytes_max / sizeof(capnp::word);
  options.nestingLimit = 16;
  return options;
}

struct connection {
  connection(kj::Own<kj::AsyncIoStream> s, service& shared, const std::shared_ptr<connection_state>& state)
      : stream(kj::mv(s)),
        network(*stream, capnp::rpc::twoparty::Side::SERVER, reader_options()),
        rpc(capnp::makeRpcServer(network, kj::heap<bootstrap>(shared, state))) {
    rpc.setFlowLimit(flow_bytes_max / sizeof(capnp::word));
  }

  kj::Own<kj::AsyncIoStream> stream;
  capnp::TwoPartyVatNetwork network;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc;
};

// Everything that lives on the event thread.
class listener final : kj::TaskSet::ErrorHandler {
 public:
  listener(service s, kj::Own<kj::ConnectionReceiver> port, std::atomic<std::size_t>& open)
      : service_(std::move(s)), port_(kj::mv(port)), open_(open), connections_(*this), accepting_(accept()) {}

 private:
  kj::Promise<void> accept() {
    return port_->acceptAuthenticated()
        .then(
            [this](kj::AuthenticatedStream&& client) -> kj::Promise<void> {
              welcome(kj::mv(client));
              return kj::READY_NOW;
            },
            [this](kj::Exception&& e) {
              // Out of file descriptors, most likely: there may be some again in a moment.
              spdlog::warn("gateway: cannot accept a connection: {}", e.getDescription().cStr());
              return service_.timer.afterDelay(100 * kj::MILLISECONDS);
            })
        .then([this] { return accept(); })
        .eagerlyEvaluate(nullptr);
  }

  void welcome(kj::AuthenticatedStream client) {
    if (open_ >= service_.options.connections_max) {
      spdlog::warn("gateway: {} connections are open, another is refused", open_.load());
      return;
    }
    auto state = std::make_shared<connection_state>();
    state->peer = client.peerIdentity->toString().cStr();
    keep_alive(*client.stream);
    auto c = kj::heap<connection>(kj::mv(client.stream), service_, state);
    auto closed = c->network.onDisconnect().exclusiveJoin(silent(state));
    ++open_;
    connections_.add(closed.attach(kj::mv(c), kj::defer([this] { --open_; })));
  }

  // Resolves when the connection has not become a session in time.
  kj::Promise<void> silent(std::shared_ptr<connection_state> state) {
    return service_.timer.afterDelay(service_.options.hello_timeout.count() * kj::MILLISECONDS)
        .then([state = std::move(state)]() -> kj::Promise<void> {
          if (state->welcome) return kj::NEVER_DONE;
          return kj::READY_NOW;
        });
  }

  void taskFailed(kj::Exception&& e) override {
    spdlog::debug("gateway: a connection ended: {}", e.getDescription().cStr());
  }

  service service_;
  kj::Own<kj::ConnectionReceiver> port_;
  std::atomic<std::size_t>& open_;
  kj::TaskSet connections_;
  kj::Promise<void> accepting_;
};

error listen_error(const server_options& options, const kj::Exception& e) {
  const std::string where = options.host + ":" + std::to_string(options.port);
  const std::string_view text = e.getDescription().cStr();
  if (text.find(std::strerror(EADDRINUSE)) != std::string_view::npos)
    return {errc::io,
            "the gateway's address " + where + " is in use; stop what listens there or choose another port"};
  return {errc::io, "the gateway cannot listen on " + where + " (" + std::string(text) +
                        "); give it an address of this machine"};
}

}  // namespace

struct server::state {
  server_options options;
  std::shared_ptr<backend> answering;
  std::uint16_t port = 0;
  std::atomic<std::size_t> open{0};
  // Touched by the event thread only.
  kj::Maybe<kj::Promise<void>> starting;
  kj::Maybe<kj::Own<listener>> listening;
  schema::event_thread thread;

  kj::Promise<void> listen() {
    auto& io = thread.io();
    return io.provider->getNetwork()
        .parseAddress(options.host, options.port)
        .then([this, &io](kj::Own<kj::NetworkAddress>&& address) {
          auto receiver = address->listen();
          port = static_cast<std::uint16_t>(receiver->getPort());
          listening = kj::heap<listener>(service{options, answering, thread.tasks(), io.provider->getTimer()},
                                         kj::mv(receiver), open);
        });
  }

  // Begins to listen and waits until it does.
  result<void> start_listening() {
    auto done = std::make_shared<std::promise<result<void>>>();
    auto listens = done->get_future();
    thread.run([this, done] {
      starting = kj::evalNow([this] { return listen(); })
                     .then([done] { done->set_value({}); },
                           [this, done](kj::Exception&& e) {
                             done->set_value(tl::unexpected(listen_error(options, e)));
                           })
                     .eagerlyEvaluate(nullptr);
    });
    return listens.get();
  }

  void end() {
    thread.stop([this] {
      starting = nullptr;
      listening = nullptr;
    });
  }

  ~state() { end(); }
};

result<std::unique_ptr<server>> server::start(server_options options, std::shared_ptr<backend> answering) {
  if (options.token.empty() && !is_loopback(options.host))
    return fail(errc::invalid_argument,
                "a gateway on " + options.host +
                    " can be reached by others and needs a token; name its file in the "
                    "cluster file");
  if (options.token.size() > limits::token_bytes)
    return fail(errc::invalid_argument, "the gateway's token is longer than " +
                                            std::to_string(limits::token_bytes) + " bytes; shorten it");
  auto s = std::make_unique<state>();
  s->options = std::move(options);
  s->answering = std::move(answering);
  if (auto listens = s->start_listening(); !listens) return tl::unexpected(listens.error());
  return std::unique_ptr<server>(new server(std::move(s)));
}

server::server(std::unique_ptr<state> s) : state_(std::move(s)) {}
server::~server() {
  stop();
}

std::uint16_t server::port() const {
  return state_->port;
}

std::string server::address() const {
  return state_->options.host + ":" + std::to_string(state_->port);
}

std::size_t server::connections() const {
  return state_->open;
}

void server::stop() {
  state_->end();
}

}  // namespace weft::launcher::gateway
