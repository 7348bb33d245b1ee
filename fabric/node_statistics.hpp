// Counters and peer states of one transport. Any thread.
#pragma once

#include <weft/fabric/transport.hpp>

#include <atomic>
#include <map>
#include <mutex>
#include <vector>

namespace weft::fabric {

class node_statistics {
 public:
  static constexpr std::size_t max_dead_peers = 1024;  // the oldest are forgotten

  void peer_up(peer_status status);
  void peer_down(peer_id peer);
  void peer_left(peer_id peer);

  void fetched(peer_id peer, std::uint64_t bytes, duration took, bool ok);
  // What measuring found: the path that is used, and how long it took to bring so much.
  void probed(peer_id peer, path way, std::uint64_t bytes, std::uint64_t nanoseconds);
  void viewed(std::uint64_t bytes) { bytes_viewed_.fetch_add(bytes, std::memory_order_relaxed); }
  void pushed(std::uint64_t bytes) { bytes_out_.fetch_add(bytes, std::memory_order_relaxed); }
  void message_in() { messages_in_.fetch_add(1, std::memory_order_relaxed); }
  void message_out() { messages_out_.fetch_add(1, std::memory_order_relaxed); }

  std::vector<peer_status> peers() const;
  transport_counters counters() const;

 private:
  mutable std::mutex mutex_;
  std::map<peer_id, peer_status> peers_;
  std::size_t dead_peers_ = 0;
  std::atomic<std::uint64_t> bytes_in_{0};
  std::atomic<std::uint64_t> bytes_viewed_{0};
  std::atomic<std::uint64_t> bytes_out_{0};
  std::atomic<std::uint64_t> fetches_{0};
  std::atomic<std::uint64_t> failed_fetches_{0};
  std::atomic<std::uint64_t> messages_in_{0};
  std::atomic<std::uint64_t> messages_out_{0};
};

}  // namespace weft::fabric
