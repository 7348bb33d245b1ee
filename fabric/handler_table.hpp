// What the user wants to hear of: set from any thread, called on the progress thread without a lock held.
#pragma once

#include <weft/fabric/transport.hpp>

#include <map>
#include <mutex>
#include <utility>

namespace weft::fabric {

class handler_table {
 public:
  void set(std::uint16_t channel, message_handler handler) {
    const std::lock_guard lock{mutex_};
    messages_.insert_or_assign(channel, std::move(handler));
  }
  void set_peer_down(peer_down_handler handler) {
    const std::lock_guard lock{mutex_};
    peer_down_ = std::move(handler);
  }

  // False: nobody listens on the channel.
  bool message(peer_id from, std::uint16_t channel, std::span<const std::byte> payload) const {
    const message_handler* handler = nullptr;
    {
      const std::lock_guard lock{mutex_};
      const auto at = messages_.find(channel);
      // Handlers stay where they are once set, as `on_message` demands.
      if (at != messages_.end()) handler = &at->second;
    }
    if (handler == nullptr || !*handler) return false;
    (*handler)(from, payload);
    return true;
  }

  void peer_down(peer_id peer, const error& why) const {
    peer_down_handler handler;
    {
      const std::lock_guard lock{mutex_};
      handler = peer_down_;
    }
    if (handler) handler(peer, why);
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::uint16_t, message_handler> messages_;
  peer_down_handler peer_down_;
};

}  // namespace weft::fabric
