// Events of a simulated network in the order of their time, those of one time in the order they were asked
// for.
#pragma once

#include <weft/base/time.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace weft::fabric {

using node_number = std::uint32_t;
inline constexpr node_number no_node = ~node_number{0};

struct network_event {
  node_number from = no_node;  // whose sending it is, if it crosses the network
  node_number at = no_node;    // who it happens to
  bool is_call = false;        // by the node's user
  std::function<void()> what;
};

class event_queue {
 public:
  time_point now() const {
    const std::lock_guard lock{mutex_};
    return now_;
  }

  void add(duration delay, network_event event) {
    const std::lock_guard lock{mutex_};
    events_.emplace(std::pair{now_ + delay, next_++}, std::move(event));
  }

  // The next event no later than `until`; the time is then its.
  std::optional<network_event> take(time_point until) {
    const std::lock_guard lock{mutex_};
    if (events_.empty() || events_.begin()->first.first > until) return std::nullopt;
    auto first = events_.extract(events_.begin());
    now_ = std::max(now_, first.key().first);
    return std::move(first.mapped());
  }

  // The calls of a node that have not happened yet.
  std::vector<network_event> take_calls(node_number of) {
    const std::lock_guard lock{mutex_};
    std::vector<network_event> out;
    std::erase_if(events_, [&](auto& entry) {
      if (entry.second.at != of || !entry.second.is_call) return false;
      out.push_back(std::move(entry.second));
      return true;
    });
    return out;
  }

  void move_time_to(time_point to) {
    const std::lock_guard lock{mutex_};
    now_ = std::max(now_, to);
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<time_point, std::uint64_t>, network_event> events_;
  std::uint64_t next_ = 0;
  // Not the epoch: code that takes a default time point for "never" should show itself.
  time_point now_{std::chrono::hours{1}};
};

}  // namespace weft::fabric
