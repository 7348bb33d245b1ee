// The RPC listener of a gateway node: its own thread with an event loop, clients on one side, a backend on
// the other. docs/rpc.md describes what clients see.
#pragma once

#include <weft/base/error.hpp>
#include <weft/launcher/gateway/backend.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace weft::launcher::gateway {

struct server_options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  // 0: chosen by the system
  // The secret every client must show. May be empty only while `host` is a loopback address.
  std::string token;
  std::string software = "weft";  // told to clients, e.g. "weft 0.1.0"

  std::size_t connections_max = 256;
  std::size_t calls_max = 64;                       // in flight, of one connection
  std::size_t upload_bytes_max = 512u << 20;        // announced and not yet done, of all connections
  std::chrono::milliseconds hello_timeout{10'000};  // for a connection to become a session
  std::chrono::milliseconds refusal_delay{200};     // before a wrong token is answered
  std::chrono::milliseconds deadline_default{120'000};
  std::chrono::milliseconds deadline_max{3'600'000};
};

class server {
 public:
  // Listens before it returns. `io`: the address cannot be had; `invalid_argument`: no token on an address
  // that others can reach.
  static result<std::unique_ptr<server>> start(server_options options, std::shared_ptr<backend> answering);

  ~server();  // as `stop`
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  std::uint16_t port() const;
  std::string address() const;      // "127.0.0.1:4242"
  std::size_t connections() const;  // open now

  // Closes the listener and every connection, cancels all calls and ends the thread. Afterwards the backend
  // is not called any more, and completions that still come are ignored. Not from the backend's methods.
  void stop();

 private:
  struct state;
  explicit server(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

}  // namespace weft::launcher::gateway
