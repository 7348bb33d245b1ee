// Whose arenas this process has mapped. Any thread.
#pragma once

#include <weft/fabric/transport.hpp>

#include "ucx/mapped_copy.hpp"

#include <map>
#include <mutex>
#include <optional>
#include <utility>

namespace weft::fabric {

class mapped_peers {
 public:
  void add(peer_id peer, mapped_arena arena) {
    const std::lock_guard lock{mutex_};
    arenas_.insert_or_assign(peer, std::move(arena));
  }

  void remove(peer_id peer) {
    const std::lock_guard lock{mutex_};
    arenas_.erase(peer);
  }

  std::optional<mapped_arena> find(peer_id peer) const {
    const std::lock_guard lock{mutex_};
    const auto at = arenas_.find(peer);
    return at == arenas_.end() ? std::nullopt : std::optional{at->second};
  }

 private:
  mutable std::mutex mutex_;
  std::map<peer_id, mapped_arena> arenas_;
};

}  // namespace weft::fabric
