// A network of transports inside one process, for simulations: nothing moves but in `step` and `advance`,
// time is virtual, and delays come from a seed, so that the same calls give the same run.
//
// Times of transports here are the network's. Its calls and those of its transports may come from any thread,
// but only one thread drives it.
#pragma once

#include <weft/base/time.hpp>
#include <weft/fabric/transport.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace weft::fabric {

struct network_options {
  std::uint64_t seed = 0;
  duration latency_min = std::chrono::microseconds{10};  // of a message or of a fetch's piece, one way
  duration latency_max = std::chrono::microseconds{200};
  std::uint64_t bytes_per_second = 10'000'000'000;
  std::size_t piece_bytes = 64 << 10;  // a fetch reads the owner's arena piece by piece, each at its own time
  path way = path::get;                // `get` reads a frozen owner's arena, `push` needs the owner
  bool maps_arenas = true;             // with `get`, nodes view each other's; else it is as over RDMA
};

class in_process_network {
 public:
  explicit in_process_network(network_options options);
  in_process_network(const in_process_network&) = delete;
  in_process_network& operator=(const in_process_network&) = delete;
  ~in_process_network();

  // A node that is up. Destroying the transport stops the node; the network must live longer.
  std::unique_ptr<transport> add_node(std::size_t arena_bytes);

  // Runs the next event, at its time. False: nothing will happen any more.
  bool step();

  // Runs everything due within `by`, then it is so much later.
  void advance(duration by);

  time_point now() const;

  // Runs `what` after `delay`, in `step`.
  void schedule(duration delay, std::function<void()> what);

  // By `address()` of a node's transport. A killed node's calls and callbacks are over: its operations end
  // nowhere, as those of a dead process. Its peers learn it after a latency.
  void kill(const std::string& address);

  // A frozen node does nothing until it thaws; then what has piled up happens.
  void freeze(const std::string& address);
  void thaw(const std::string& address);

  // Nothing crosses between the two, and nobody is told; what was sent meanwhile arrives when it heals.
  void partition(const std::string& address, const std::string& other);
  void heal(const std::string& address, const std::string& other);

 private:
  struct core;
  class node;
  std::shared_ptr<core> core_;
};

}  // namespace weft::fabric
