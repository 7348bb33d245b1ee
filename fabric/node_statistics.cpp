#include "node_statistics.hpp"

#include <algorithm>
#include <utility>

namespace weft::fabric {

void node_statistics::peer_up(peer_status status) {
  const std::lock_guard lock{mutex_};
  const auto id = status.peer;
  peers_.insert_or_assign(id, std::move(status));
}

void node_statistics::peer_down(peer_id peer) {
  const std::lock_guard lock{mutex_};
  const auto at = peers_.find(peer);
  if (at == peers_.end() || !at->second.alive) return;
  at->second.alive = false;
  if (++dead_peers_ <= max_dead_peers) return;
  peers_.erase(
      std::find_if(peers_.begin(), peers_.end(), [](const auto& entry) { return !entry.second.alive; }));
  --dead_peers_;
}

void node_statistics::peer_left(peer_id peer) {
  const std::lock_guard lock{mutex_};
  const auto at = peers_.find(peer);
  if (at == peers_.end()) return;
  if (!at->second.alive) --dead_peers_;
  peers_.erase(at);
}

void node_statistics::fetched(peer_id peer, std::uint64_t bytes, duration took, bool ok) {
  fetches_.fetch_add(1, std::memory_order_relaxed);
  bytes_in_.fetch_add(bytes, std::memory_order_relaxed);
  if (!ok) {
    failed_fetches_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::lock_guard lock{mutex_};
  const auto at = peers_.find(peer);
  if (at == peers_.end()) return;
  at->second.bytes_fetched += bytes;
  at->second.fetch_nanoseconds += static_cast<std::uint64_t>(took.count());
}

void node_statistics::probed(peer_id peer, path way, std::uint64_t bytes, std::uint64_t nanoseconds) {
  const std::lock_guard lock{mutex_};
  const auto at = peers_.find(peer);
  if (at == peers_.end()) return;
  at->second.way = way;
  at->second.probed_bytes = bytes;
  at->second.probe_nanoseconds = nanoseconds;
}

std::vector<peer_status> node_statistics::peers() const {
  const std::lock_guard lock{mutex_};
  std::vector<peer_status> out;
  out.reserve(peers_.size());
  for (const auto& [id, status] : peers_)
    out.push_back(status);
  return out;
}

transport_counters node_statistics::counters() const {
  const auto read = [](const std::atomic<std::uint64_t>& value) {
    return value.load(std::memory_order_relaxed);
  };
  return {.bytes_in = read(bytes_in_),
          .bytes_viewed = read(bytes_viewed_),
          .bytes_out = read(bytes_out_),
          .fetches = read(fetches_),
          .failed_fetches = read(failed_fetches_),
          .messages_in = read(messages_in_),
          .messages_out = read(messages_out_)};
}

}  // namespace weft::fabric
