// What the nodes of a simulated network do to each other.
#pragma once

#include <weft/fabric/in_process.hpp>

#include "in_process/node_state.hpp"

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace weft::fabric {

struct in_process_network::core {
  explicit core(network_options chosen) : options(chosen), random(chosen.seed) {}

  network_options options;
  event_queue events;
  std::mt19937_64 random;
  std::vector<std::unique_ptr<node_state>> nodes;
  std::set<std::pair<node_number, node_number>> partitions;  // lower number first
  std::map<std::pair<node_number, node_number>, std::vector<network_event>> held;
  std::atomic<std::uint64_t> last_operation{0};

  node_state& add_node(std::size_t arena_bytes);
  node_state* find(const std::string& address);

  // Runs the next event that is due; false: none until then.
  bool run_next(time_point until);
  void run(network_event event);

  duration latency();
  // At the node itself, now; a dead node's events do not happen.
  void local(node_state& at, duration delay, std::function<void()> what);
  // A call of the node's transport; it happens even if the transport goes first.
  void call(node_state& at, std::function<void()> what);
  void cross(const node_state& from, node_state& to, duration delay, std::function<void()> what);

  void kill(node_state& node, bool ends_callbacks);
  void thaw(node_state& node);
  void heal(node_number a, node_number b);
  bool partitioned(node_number a, node_number b) const { return partitions.contains(std::minmax(a, b)); }

  // In events of `node`:
  void connect(node_state& node, const std::string& address, duration timeout, connect_callback done);
  void finish_connect(node_state& node, std::uint64_t attempt, result<peer_id> outcome);
  void add_link(node_state& node, peer_id peer, const simulated_link& link);
  void disconnect(node_state& node, peer_id peer);
  void lose_link(node_state& node, peer_id peer, const error& why);

  void fetch(node_state& node, std::uint64_t operation, simulated_fetch fetch, duration timeout);
  void view(node_state& node, std::uint64_t operation, const node_state& owner);
  bool maps(const node_state& node, const node_state& owner) const;
  void start_pieces(node_state& node, std::uint64_t operation);
  void send_pieces(node_state& node, node_state& owner, std::uint64_t operation);
  void take_piece(node_state& node, const node_state& owner, std::uint64_t operation, std::size_t range,
                  std::uint64_t offset, std::uint64_t bytes);
  void end_fetch(node_state& node, std::uint64_t operation, const error& why);
  void conclude(node_state& node, std::uint64_t operation, const error* why);
  void end_fetches_of(node_state& node, peer_id peer, const error& why);

  void send(node_state& node, peer_id to, std::uint16_t channel, std::vector<std::byte> payload,
            send_callback done);
};

}  // namespace weft::fabric
