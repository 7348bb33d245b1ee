#include <weft/actors/errors.hpp>
#include <weft/actors/remoting.hpp>

#include <caf/event_based_actor.hpp>
#include <caf/io/middleman.hpp>
#include <caf/io/publish.hpp>
#include <caf/openssl/manager.hpp>
#include <caf/openssl/publish.hpp>
#include <caf/sec.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <set>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto connect_timeout = std::chrono::seconds{3};

bool is_loopback(const std::string& host) {
  if (host == "localhost" || host == "::1") return true;
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

// Who takes a connection and then ends it, or waits for a greeting of another kind, does not want what this
// side shows.
error refused_connection(const caf::error& why, const std::string& address, bool secure) {
  if (secure && why == caf::sec::disconnect_during_handshake) {
    return {errc::invalid_argument,
            "the node at " + address +
                " ended the connection: both sides need certificates of the same authority, see [tls] in the "
                "cluster file"};
  }
  if (!secure && (why == caf::sec::disconnect_during_handshake || why == caf::sec::request_timeout)) {
    return {
        errc::invalid_argument,
        "the node at " + address +
            " took the connection and said nothing: if its cluster has a [tls] section, this node needs it "
            "too"};
  }
  return {errc::unreachable, "no node answers at " + address};
}

class middleman_remoting final : public remoting {
 public:
  middleman_remoting(caf::actor_system& system, bool secure) : system_(system), secure_(secure) {}

  result<std::uint16_t> publish(const node_actor& node, const std::string& host,
                                std::uint16_t port) override {
    if (auto refused = refuse_open_wire(host)) return tl::make_unexpected(*refused);
    // A restarted node takes its old port while connections of its former life linger.
    constexpr bool reuse = true;
    const auto bound = secure_ ? caf::openssl::publish(node, port, host.c_str(), reuse)
                               : caf::io::publish(node, port, host.c_str(), reuse);
    if (bound) return *bound;
    return fail(
        errc::io,
        "cannot listen on " + host + ":" + std::to_string(port) +
            " for control messages: in use or not an address of this machine; choose another port, or 0");
  }

  void connect(const std::string& host, std::uint16_t port,
               std::function<void(result<node_actor>)> done) override {
    if (auto refused = refuse_open_wire(host)) return done(tl::make_unexpected(*refused));
    const auto middleman =
        secure_ ? system_.openssl_manager().actor_handle() : system_.middleman().actor_handle();
    system_.spawn([middleman, host, port, secure = secure_,
                   done = std::move(done)](caf::event_based_actor* self) {
      self->request(middleman, connect_timeout, caf::connect_atom_v, host, port)
          .then(
              [done](const caf::node_id&, const caf::strong_actor_ptr& found, const std::set<std::string>&) {
                if (!found) return done(fail(errc::unreachable, "nothing is published there"));
                done(caf::actor_cast<node_actor>(found));
              },
              [done, host, port, secure](const caf::error& why) {
                done(tl::make_unexpected(refused_connection(why, host + ":" + std::to_string(port), secure)));
              });
    });
  }

 private:
  std::optional<error> refuse_open_wire(const std::string& host) const {
    if (secure_ || is_loopback(host)) return std::nullopt;
    return error{errc::invalid_argument,
                 "control messages leave this machine (" + host +
                     ") only over TLS: name certificate, key and authority under [secrets]"};
  }

  caf::actor_system& system_;
  bool secure_;
};

}  // namespace

std::unique_ptr<remoting> make_middleman_remoting(caf::actor_system& system, const tls_files& tls) {
  return std::make_unique<middleman_remoting>(system, !tls.empty());
}

}  // namespace weft::actors
