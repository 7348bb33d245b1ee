// What costs least to lose goes first: recompute cost x expected reuse, per byte. The number of uses stands
// for the probability of another one; items that are not used lose ground against newer ones as others go:
// the worth of the last one that went is added to that of everything that is used or inserted afterwards
// (GreedyDual-Size-Frequency: Cherkasova, HP Labs TR 98-69). What comes back while it is still remembered
// keeps the count of its uses.
#pragma once

#include <weft/policies/eviction.hpp>
#include <weft/policies/remembered_items.hpp>

#include <cstddef>

namespace weft::policies {

// A binary heap by worth over an array by slot: every call is O(log n), `victims` for each candidate.
class cost_eviction final : public eviction_policy {
 public:
  explicit cost_eviction(std::uint64_t capacity_bytes) : remembered_(capacity_bytes) {}

  void touch(slot_index slot) override;
  eviction_plan victims(std::uint64_t bytes_needed, const may_go& allowed) override;

  bool holds(slot_index slot) const override { return slot < items_.size() && items_[slot].held; }
  std::size_t size() const override { return heap_.size(); }
  std::uint64_t bytes() const override { return bytes_; }

 private:
  struct item {
    double worth = 0;
    std::uint64_t number = 0;  // of the last use or insertion: the earlier goes first among equals
    std::uint64_t bytes = 0;
    std::uint64_t identity = 0;
    std::uint64_t recompute_cost = 0;
    std::uint32_t uses = 0;
    std::uint32_t heap_at = 0;
    bool held = false;
  };

  void admit(slot_index slot, const item_facts& facts) override;
  void remove(slot_index slot, bool evicted) override;
  void resize(slot_index slot, std::uint64_t bytes) override;
  std::uint64_t bytes_of(slot_index slot) const override { return items_[slot].bytes; }

  void appraise(item& it);
  bool less(slot_index a, slot_index b) const;
  void put(slot_index slot, std::uint32_t at);
  void rise(std::uint32_t at);
  void sink(std::uint32_t at);
  void push(slot_index slot);
  void take_out(slot_index slot);

  std::vector<item> items_;
  std::vector<slot_index> heap_;  // least worth first
  remembered_items remembered_;
  double floor_ = 0;  // worth of the last that went
  std::uint64_t next_number_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace weft::policies
