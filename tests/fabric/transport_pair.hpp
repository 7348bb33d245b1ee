// Two nodes as a contract test sees them: `here` is used, the other plays its role (peer_role.hpp).
#pragma once

#include <weft/fabric/transport.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace weft::fabric::testing {

// A pair also has the constants `arena_bytes` and `large_bytes`, at least 16 MiB apart.
class transport_pair {
 public:
  virtual ~transport_pair() = default;

  virtual transport& here() = 0;
  virtual const std::string& peer_address() const = 0;

  virtual void kill_peer() = 0;
  virtual void freeze_peer() = 0;
  virtual void thaw_peer() = 0;
  virtual bool frozen_owner_can_be_read() const = 0;
  virtual bool views_peers() const = 0;
  virtual bool lands_from_peers() const = 0;

  // Lets things happen until `condition`, which is asked under the lock of `note`; false: it never came.
  virtual bool wait_for(const std::function<bool()>& condition) = 0;

  // Callbacks change what tests look at in here.
  void note(const std::function<void()>& change) {
    const std::lock_guard lock{mutex_};
    change();
    changed_.notify_all();
  }

 protected:
  std::mutex mutex_;
  std::condition_variable changed_;
};

// The value that one callback brings, and how often it was called.
template <class Value>
class awaited {
 public:
  explicit awaited(transport_pair& pair) : pair_(pair), state_(std::make_shared<state>()) {}

  auto callback() const {
    return [&pair = pair_, state = state_](Value value) {
      pair.note([&] {
        ++state->calls;
        state->value = std::move(value);
      });
    };
  }

  const Value& get() const {
    REQUIRE(pair_.wait_for([this] { return state_->calls > 0; }));
    return *state_->value;
  }
  int calls() const {
    int out = 0;
    pair_.note([&] { out = state_->calls; });
    return out;
  }

 private:
  struct state {
    int calls = 0;
    std::optional<Value> value;
  };
  transport_pair& pair_;
  std::shared_ptr<state> state_;
};

// The value that `begin`, given a callback, brings.
template <class Value, class Begin>
Value answer_to(transport_pair& pair, const Begin& begin) {
  const awaited<Value> answer{pair};
  begin(answer.callback());
  return answer.get();
}

inline result<peer_id> connect_to(transport_pair& pair, const std::string& address,
                                  duration timeout = std::chrono::seconds{20}) {
  return answer_to<result<peer_id>>(pair, [&](auto done) { pair.here().connect(address, timeout, done); });
}

inline peer_id connect_pair(transport_pair& pair) {
  const auto peer = connect_to(pair, pair.peer_address());
  REQUIRE_MESSAGE(peer.has_value(), (peer ? "" : to_string(peer.error())));
  return *peer;
}

inline fetch_report fetch_now(transport_pair& pair, peer_id peer, std::vector<fetch_range> ranges,
                              duration timeout = std::chrono::seconds{60}) {
  return answer_to<fetch_report>(
      pair, [&](auto done) { pair.here().fetch(peer, std::move(ranges), timeout, done); });
}

inline fetch_report view_now(transport_pair& pair, peer_id peer, std::vector<fetch_range> ranges,
                             duration timeout = std::chrono::seconds{60}) {
  return answer_to<fetch_report>(
      pair, [&](auto done) { pair.here().view(peer, std::move(ranges), timeout, done); });
}

inline fetch_report land_now(transport_pair& pair, peer_id peer, std::vector<fetch_range> ranges,
                             std::shared_ptr<const registered_memory> into,
                             duration timeout = std::chrono::seconds{60}) {
  return answer_to<fetch_report>(
      pair, [&](auto done) { pair.here().land(peer, std::move(ranges), std::move(into), timeout, done); });
}

}  // namespace weft::fabric::testing
