// This node as owner: sends the chunks that peers asked for. Used by the progress thread only.
#pragma once

#include "node_statistics.hpp"
#include "ucx/active_sender.hpp"
#include "ucx/arena.hpp"
#include "ucx/connections.hpp"

#include <span>
#include <vector>

namespace weft::fabric {

class pushes {
 public:
  pushes(const ucx_arena& arena, connections& peers, active_sender& sender, node_statistics& statistics)
      : arena_(arena), peers_(peers), sender_(sender), statistics_(statistics) {}

  void on_request(connection& from, std::span<const std::byte> header, std::span<const std::byte> payload);
  void on_cancel(connection& from, std::span<const std::byte> header);

  // Keeps every connection's window full.
  void pump();

 private:
  void refuse(connection& to, std::uint64_t operation, refusal reason);
  void fill_window(connection& to);

  const ucx_arena& arena_;
  connections& peers_;
  active_sender& sender_;
  node_statistics& statistics_;
  std::vector<peer_id> with_work_;
};

}  // namespace weft::fabric
