// One node of a simulated network. Changed in events only, so by the thread that drives the network.
#pragma once

#include <weft/base/id128.hpp>
#include <weft/fabric/transport.hpp>

#include "handler_table.hpp"
#include "in_process/event_queue.hpp"
#include "node_statistics.hpp"

#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace weft::fabric {

struct simulated_link {
  node_number other = no_node;
  peer_id other_side{};  // what the other node calls this one
  time_point last_arrival;
};

struct node_state;

class simulated_registration final : public registered_memory {
 public:
  simulated_registration(const node_state& at, std::span<std::byte> bytes, memory_kind kind)
      : registered_memory(bytes, kind), at_(&at) {}

  bool is_of(const node_state& node) const { return &node == at_; }

 private:
  const node_state* at_;  // may be gone
};

struct simulated_fetch {
  peer_id peer{};
  bool in_place = false;
  bool landing = false;
  std::shared_ptr<const simulated_registration> into;  // where it lands; else the arena
  std::vector<fetch_range> ranges;
  std::vector<result<void>> results;
  std::vector<std::uint64_t> missing_bytes;  // by range
  std::uint64_t missing_total = 0;
  std::uint64_t bytes_done = 0;
  std::vector<arena_view> views;
  time_point started;
  fetch_callback done;
};

class simulated_arena {
 public:
  static constexpr std::size_t alignment = 4096;

  explicit simulated_arena(std::size_t bytes)
      : bytes_(bytes), memory_(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded(bytes)))) {
    if (!memory_) throw std::bad_alloc{};
    std::fill_n(memory_.get(), bytes, std::byte{0});
  }
  std::span<std::byte> bytes() const { return {memory_.get(), bytes_}; }

 private:
  struct release {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  static std::size_t rounded(std::size_t bytes) {
    return std::max<std::size_t>((bytes + alignment - 1) / alignment * alignment, alignment);
  }

  std::size_t bytes_;
  std::unique_ptr<std::byte, release> memory_;
};

struct node_state {
  node_state(node_number own_number, id128 own_nonce, std::size_t arena_bytes)
      : number(own_number), nonce(own_nonce), arena(std::make_shared<simulated_arena>(arena_bytes)) {}

  node_number number;
  id128 nonce;
  std::string address;
  bool alive = true;
  bool frozen = false;
  std::deque<network_event> waiting_for_thaw;
  std::shared_ptr<simulated_arena> arena;  // views keep it
  handler_table handlers;
  node_statistics statistics;
  std::map<peer_id, simulated_link> links;
  std::map<std::uint64_t, connect_callback> connecting;
  std::map<std::uint64_t, simulated_fetch> fetches;
  std::uint32_t last_peer = 0;
  std::uint64_t last_attempt = 0;
};

}  // namespace weft::fabric
