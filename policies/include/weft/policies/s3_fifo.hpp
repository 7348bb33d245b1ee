// S3-FIFO (Yang et al., SOSP 2023): three first-in-first-out queues. New items enter a small one, a tenth of
// the bytes; those that are used there again move to the main one, the others leave, remembered in a ghost
// queue. What comes back while it is remembered enters the main queue. There, an item that was used since it
// last came to the end gets another round for each use, three at most.
#pragma once

#include <weft/policies/eviction.hpp>
#include <weft/policies/remembered_items.hpp>

#include <array>
#include <cstddef>
#include <limits>

namespace weft::policies {

// Lists threaded through an array by slot: `touch` writes one byte; `victims` moves items on within the
// queues, each a bounded number of places for every one that goes.
class s3_fifo final : public eviction_policy {
 public:
  explicit s3_fifo(std::uint64_t capacity_bytes);

  void touch(slot_index slot) override;
  eviction_plan victims(std::uint64_t bytes_needed, const may_go& allowed) override;

  bool holds(slot_index slot) const override {
    return slot < nodes_.size() && nodes_[slot].where != place::nowhere;
  }
  std::size_t size() const override { return size_; }
  std::uint64_t bytes() const override { return queues_[0].bytes + queues_[1].bytes; }
  bool in_main(slot_index slot) const { return holds(slot) && nodes_[slot].where == place::main; }

 private:
  static constexpr slot_index none = std::numeric_limits<slot_index>::max();
  enum class place : std::uint8_t { small = 0, main = 1, nowhere = 2 };

  struct node {
    slot_index older = none, newer = none;
    std::uint64_t bytes = 0;
    std::uint64_t identity = 0;
    std::uint8_t uses = 0;
    place where = place::nowhere;
  };
  struct queue {
    slot_index oldest = none, newest = none;
    std::uint64_t bytes = 0;
  };

  void admit(slot_index slot, const item_facts& facts) override;
  void remove(slot_index slot, bool evicted) override;
  void resize(slot_index slot, std::uint64_t bytes) override;
  std::uint64_t bytes_of(slot_index slot) const override { return nodes_[slot].bytes; }

  queue& of(place p) { return queues_[static_cast<std::size_t>(p)]; }
  void link_as_newest(slot_index slot, place where);
  void link_as_oldest(slot_index slot, place where);
  void unlink(slot_index slot);
  place next_to_leave() const;

  std::uint64_t small_bytes_;
  std::vector<node> nodes_;
  std::array<queue, 2> queues_;
  remembered_items ghosts_;
  std::size_t size_ = 0;
};

}  // namespace weft::policies
