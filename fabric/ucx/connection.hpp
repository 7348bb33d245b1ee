// A peer as the progress thread sees it.
#pragma once

#include <weft/fabric/transport.hpp>
#include <weft/fabric/wire/message_order.hpp>
#include <weft/fabric/wire/node_address.hpp>
#include <weft/fabric/wire/push_queue.hpp>

#include "ucx/remote_region.hpp"

#include <deque>
#include <memory>
#include <optional>
#include <vector>

namespace weft::fabric {

struct connection {
  enum class phase {
    flushing,        // UCX is wiring up
    awaiting_hello,  // ours may be sent; the peer's has not come
    open,
  };

  struct waiting_caller {
    time_point deadline;
    connect_callback done;
  };

  peer_id id{};
  bool initiated = false;  // by this side
  phase state = phase::flushing;
  time_point handshake_deadline;
  void* flush_request = nullptr;
  std::vector<waiting_caller> callers;
  std::optional<error> broken;           // found in a callback of UCX, acted upon by the loop
  std::optional<node_address> greeting;  // of the peer's hello
  bool misdirected = false;              // the peer wants a node that was here before; it will leave

  std::unique_ptr<ucx_endpoint> endpoint;     // null: this node itself
  std::unique_ptr<ucx_remote_region> region;  // goes before its endpoint
  node_address address;                       // valid once initiated or open
  std::span<const std::byte> view;            // the peer's arena, where mapped
  std::shared_ptr<const void> mapping;        // of `view`, for who looks at it longer than this lives
  bool one_sided = false;                     // this node can read its memory without it
  path way = path::push;

  message_order inbox;
  std::uint64_t next_sequence = 0;

  // This side as owner.
  push_queue pushes;
  unsigned pushes_in_flight = 0;

  // This side as reader: requests at the peer, and fetches that wait for one of them to end.
  unsigned requests_in_flight = 0;
  std::deque<operation_id> requests_waiting;
};

}  // namespace weft::fabric
