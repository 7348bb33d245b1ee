// Who this node is connected to: connecting, accepting, greeting, failing and closing
// (docs/fabric-protocol.md, 2). Used by the progress thread only.
#pragma once

#include "node_statistics.hpp"
#include "ucx/active_sender.hpp"
#include "ucx/arena.hpp"
#include "ucx/connection.hpp"
#include "ucx/listener.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace weft::fabric {

// This node, as it tells its peers.
struct own_identity {
  node_address address;
  std::string encoded;
  bool map_peer_arenas = true;
};

class connections {
 public:
  struct events {
    std::function<void(connection&)> opened;
    // Before the connection goes. `by_peer`: it failed or left; else this side asked for it.
    std::function<void(connection&, const error& why, bool by_peer)> closing;
  };

  connections(const ucx_worker& worker, ucx_listener listener, const ucx_arena& arena, own_identity self,
              active_sender& sender, node_statistics& statistics, events on);
  ~connections();

  void connect(const std::string& address, time_point deadline, connect_callback done);
  void disconnect(peer_id peer, time_point now, const error& why);

  // Open ones only; null if there is none.
  connection* find(peer_id peer);
  // Any state.
  connection* find(ucp_ep_h endpoint);

  void on_hello(connection& from, std::span<const std::byte> header, std::span<const std::byte> payload);

  // Gives up the connection for that reason, at the next `pump`.
  void break_off(connection& which, error why);

  // Takes what has come and what has run out of time. True if something changed.
  bool pump(time_point now);
  std::optional<time_point> next_deadline() const;

  // Something useful to do when idle. False: there is nothing.
  bool warm_up();

  void disconnect_all(time_point now, const error& why);
  bool all_closed() const { return lingering_.empty() && by_id_.empty(); }

 private:
  // An endpoint on its way out, first flushing, then closing by force.
  struct lingering_endpoint {
    std::unique_ptr<ucx_endpoint> endpoint;
    std::unique_ptr<ucx_remote_region> region;
    void* flush_request = nullptr;
    time_point flush_deadline;
  };

  connection& add(std::unique_ptr<connection> fresh);
  connection* find_by_nonce(const id128& nonce);
  void connect_to_self(const connect_callback& done);
  void start_connect(const node_address& to, time_point deadline, connect_callback done);
  bool accept_waiting(time_point now);
  bool take_failures();
  bool advance_handshakes(time_point now);
  bool advance(connection& which, time_point now);
  bool flushed(connection& which);
  bool answer_misdirected(connection& which);
  void send_hello(connection& to);
  result<void> check_greeting(const connection& which) const;
  result<void> open(connection& which);
  void choose_path(connection& which);
  void expire_callers(connection& which, time_point now);
  bool close_broken(time_point now);
  void close(connection& which, const error& why, bool by_peer, time_point flush_deadline);
  bool advance_lingering(time_point now);

  const ucx_worker& worker_;
  const ucx_arena& arena_;
  own_identity self_;
  active_sender& sender_;
  node_statistics& statistics_;
  events on_;
  ucx_listener listener_;
  std::shared_ptr<endpoint_failures> failures_ = std::make_shared<endpoint_failures>();
  std::map<peer_id, std::unique_ptr<connection>> by_id_;
  std::unordered_map<ucp_ep_h, connection*> by_endpoint_;
  std::vector<peer_id> handshaking_;
  std::vector<lingering_endpoint> lingering_;
  std::vector<peer_id> cold_;  // with arenas whose pages are not mapped yet
  bool any_broken_ = false;
  std::uint32_t last_id_ = 0;
};

}  // namespace weft::fabric
