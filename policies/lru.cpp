#include <weft/policies/lru.hpp>

namespace weft::policies {

void lru::admit(slot_index slot, const item_facts& facts) {
  if (slot >= nodes_.size()) nodes_.resize(std::size_t{slot} + 1);
  nodes_[slot].bytes = facts.bytes;
  nodes_[slot].held = true;
  link_as_newest(slot);
  ++size_;
  bytes_ += facts.bytes;
}

void lru::touch(slot_index slot) {
  if (!holds(slot) || slot == newest_) return;
  unlink(slot);
  link_as_newest(slot);
}

void lru::remove(slot_index slot, bool) {
  unlink(slot);
  nodes_[slot].held = false;
  --size_;
  bytes_ -= nodes_[slot].bytes;
}

void lru::resize(slot_index slot, std::uint64_t bytes) {
  bytes_ += bytes - nodes_[slot].bytes;
  nodes_[slot].bytes = bytes;
}

eviction_plan lru::victims(std::uint64_t bytes_needed, const may_go& allowed) {
  eviction_plan plan;
  for (slot_index slot = oldest_; slot != none && plan.freed_bytes < bytes_needed;
       slot = nodes_[slot].newer) {
    if (!allowed(slot)) continue;
    plan.victims.push_back(slot);
    plan.freed_bytes += nodes_[slot].bytes;
  }
  return plan;
}

void lru::link_as_newest(slot_index slot) {
  nodes_[slot].older = newest_;
  nodes_[slot].newer = none;
  (newest_ == none ? oldest_ : nodes_[newest_].newer) = slot;
  newest_ = slot;
}

void lru::unlink(slot_index slot) {
  const auto [older, newer, bytes, held] = nodes_[slot];
  (older == none ? oldest_ : nodes_[older].newer) = newer;
  (newer == none ? newest_ : nodes_[newer].older) = older;
}

}  // namespace weft::policies
