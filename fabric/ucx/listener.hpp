// The socket that peers connect to. Requests wait until the progress loop takes them.
#pragma once

#include "ucx/worker.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

namespace weft::fabric {

class ucx_listener {
 public:
  static constexpr std::size_t max_waiting = 1024;

  // `host` is an IP literal; port 0: any. io where the port is in use.
  static result<ucx_listener> make(const ucx_worker& worker, const std::string& host, std::uint16_t port);

  ucx_listener(ucx_listener&&) = default;
  ucx_listener& operator=(ucx_listener&&) = delete;
  ~ucx_listener();

  std::uint16_t port() const { return port_; }

  // The next request to make an endpoint of, or null.
  ucp_conn_request_h take();

 private:
  // Reached by UCX's callback, so it keeps its place when the listener moves.
  struct waiting_room {
    ucp_listener_h listener = nullptr;
    std::deque<ucp_conn_request_h> requests;
  };

  static void on_request(ucp_conn_request_h request, void* argument);

  ucx_listener(std::shared_ptr<ucp_worker> worker, std::unique_ptr<waiting_room> room, std::uint16_t port)
      : worker_(std::move(worker)), room_(std::move(room)), port_(port) {}

  std::shared_ptr<ucp_worker> worker_;
  std::unique_ptr<waiting_room> room_;
  std::uint16_t port_ = 0;
};

}  // namespace weft::fabric
