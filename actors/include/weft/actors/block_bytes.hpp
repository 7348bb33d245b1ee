// The verified bytes of a block that was read: a copy in staging or beside it on a device, or the block where
// its holder has it.
#pragma once

#include <weft/actors/staging.hpp>
#include <weft/base/time.hpp>
#include <weft/fabric/arena_view.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>

namespace weft::engine {
class block_landing;
}

namespace weft::actors {

// A holder's promise to leave blocks as they are until a time, on this node's clock. Given back when nobody
// looks at them any more. Any thread.
class view_lease {
 public:
  view_lease(std::function<time_point()> clock, time_point until, std::function<void()> release)
      : clock_(std::move(clock)), until_(until), release_(std::move(release)) {}
  view_lease(const view_lease&) = delete;
  view_lease& operator=(const view_lease&) = delete;
  ~view_lease() { release_(); }

  bool holds() const { return clock_() < until_; }

 private:
  std::function<time_point()> clock_;
  time_point until_;
  std::function<void()> release_;
};

class block_bytes {
 public:
  explicit block_bytes(staged_bytes copy) : copy_(std::move(copy)), bytes_(copy_.bytes()) {}
  // Of one that landed beside that place; it leaves the device when this ends.
  block_bytes(staged_bytes place, std::shared_ptr<engine::block_landing> landing)
      : copy_(std::move(place)), landing_(std::move(landing)), bytes_(copy_.bytes()) {}
  block_bytes(fabric::arena_view there, std::shared_ptr<const view_lease> lease)
      : lease_(std::move(lease)), there_(std::move(there)), bytes_(there_.bytes()) {}
  block_bytes(const block_bytes&) = delete;
  block_bytes& operator=(const block_bytes&) = delete;
  ~block_bytes();

  // Of a block that landed on a device: what says which rows there are, and nothing of their keys and values.
  std::span<const std::byte> bytes() const { return bytes_; }

  // Where it landed; null for one whose bytes are here.
  engine::block_landing* landing() const { return landing_.get(); }

  // Others can write to them.
  bool in_place() const { return lease_ != nullptr; }

  // To be asked after use: false where what was read in place may not have been the block any more.
  bool intact() const { return !lease_ || lease_->holds(); }

 private:
  staged_bytes copy_;
  std::shared_ptr<engine::block_landing> landing_;
  std::shared_ptr<const view_lease> lease_;  // ends behind the view
  fabric::arena_view there_;
  std::span<const std::byte> bytes_;
};

}  // namespace weft::actors
