// Small messages, both ways. Used by the progress thread only.
#pragma once

#include "handler_table.hpp"
#include "node_statistics.hpp"
#include "ucx/active_sender.hpp"
#include "ucx/connections.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace weft::fabric {

class messages {
 public:
  messages(const handler_table& handlers, connections& peers, active_sender& sender,
           node_statistics& statistics)
      : handlers_(handlers), peers_(peers), sender_(sender), statistics_(statistics) {}

  void send(peer_id to, std::uint16_t channel, std::vector<std::byte> payload, send_callback done);

  void on_message(connection& from, std::span<const std::byte> header, std::span<const std::byte> payload);

  // Those that came while the connection was not open yet.
  void deliver_kept(connection& from);

  // Delivers what this node sent to itself. True if there was something.
  bool pump();

 private:
  struct message_to_self {
    peer_id self{};
    std::uint16_t channel = 0;
    std::vector<std::byte> payload;
  };

  message_order::deliver deliverer(peer_id from);

  const handler_table& handlers_;
  connections& peers_;
  active_sender& sender_;
  node_statistics& statistics_;
  std::deque<message_to_self> to_self_;
};

}  // namespace weft::fabric
