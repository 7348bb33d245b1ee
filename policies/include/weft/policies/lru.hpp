// Least recently used goes first.
#pragma once

#include <weft/policies/eviction.hpp>

#include <cstddef>
#include <limits>

namespace weft::policies {

// A list threaded through an array by slot: every call but `victims` is O(1), and memory grows only with the
// largest slot ever inserted.
class lru final : public eviction_policy {
 public:
  explicit lru(std::size_t expected_slots = 0) { nodes_.reserve(expected_slots); }

  void touch(slot_index slot) override;
  eviction_plan victims(std::uint64_t bytes_needed, const may_go& allowed) override;

  bool holds(slot_index slot) const override { return slot < nodes_.size() && nodes_[slot].held; }
  std::size_t size() const override { return size_; }
  std::uint64_t bytes() const override { return bytes_; }

 private:
  static constexpr slot_index none = std::numeric_limits<slot_index>::max();

  struct node {
    slot_index older = none, newer = none;
    std::uint64_t bytes = 0;
    bool held = false;
  };

  void admit(slot_index slot, const item_facts& facts) override;
  void remove(slot_index slot, bool evicted) override;
  void resize(slot_index slot, std::uint64_t bytes) override;
  std::uint64_t bytes_of(slot_index slot) const override { return nodes_[slot].bytes; }

  void link_as_newest(slot_index slot);
  void unlink(slot_index slot);

  std::vector<node> nodes_;
  slot_index oldest_ = none, newest_ = none;
  std::size_t size_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace weft::policies
