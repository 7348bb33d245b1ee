#include <weft/policies/lru.hpp>

#include <stdexcept>
#include <string>

namespace weft::policies {

void lru::insert(slot_index slot, std::uint64_t bytes) {
  if (slot == none || holds(slot))
    throw std::logic_error("slot " + std::to_string(slot) + " cannot be inserted");
  if (slot >= nodes_.size()) nodes_.resize(std::size_t{slot} + 1);
  nodes_[slot].bytes = bytes;
  nodes_[slot].held = true;
  link_as_newest(slot);
  ++size_;
  bytes_ += bytes;
}

void lru::touch(slot_index slot) {
  if (!holds(slot) || slot == newest_) return;
  unlink(slot);
  link_as_newest(slot);
}

void lru::erase(slot_index slot) {
  if (!holds(slot)) return;
  unlink(slot);
  nodes_[slot].held = false;
  --size_;
  bytes_ -= nodes_[slot].bytes;
}

eviction_plan lru::victims(std::uint64_t bytes_needed, const std::function<bool(slot_index)>& may_go) const {
  eviction_plan plan;
  for (slot_index slot = oldest_; slot != none && plan.freed_bytes < bytes_needed;
       slot = nodes_[slot].newer) {
    if (!may_go(slot)) continue;
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
