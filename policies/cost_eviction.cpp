#include <weft/policies/cost_eviction.hpp>

#include <algorithm>

namespace weft::policies {
namespace {

// Beyond that another use says nothing new.
constexpr std::uint32_t most_uses = 64;

}  // namespace

void cost_eviction::admit(slot_index slot, const item_facts& facts) {
  if (slot >= items_.size()) items_.resize(std::size_t{slot} + 1);
  item& it = items_[slot];
  it = {.worth = 0,
        .number = 0,
        .bytes = facts.bytes,
        .identity = facts.identity,
        .recompute_cost = facts.recompute_cost == 0 ? facts.bytes : facts.recompute_cost,
        .uses = std::min(most_uses, remembered_.take(facts.identity).value_or(0) + 1),
        .heap_at = 0,
        .held = true};
  appraise(it);
  push(slot);
  bytes_ += facts.bytes;
}

void cost_eviction::touch(slot_index slot) {
  if (!holds(slot)) return;
  item& it = items_[slot];
  it.uses = std::min(most_uses, it.uses + 1);
  appraise(it);
  sink(it.heap_at);
}

void cost_eviction::remove(slot_index slot, bool evicted) {
  item& it = items_[slot];
  if (evicted) {
    remembered_.add(it.identity, it.bytes, it.uses);
    floor_ = std::max(floor_, it.worth);
  }
  take_out(slot);
  it.held = false;
  bytes_ -= it.bytes;
}

// Lower bands are worth less than those that stay: what is left is worth more per byte.
void cost_eviction::resize(slot_index slot, std::uint64_t bytes) {
  item& it = items_[slot];
  bytes_ += bytes - it.bytes;
  it.bytes = bytes;
  appraise(it);
  rise(it.heap_at);
  sink(it.heap_at);
}

eviction_plan cost_eviction::victims(std::uint64_t bytes_needed, const may_go& allowed) {
  eviction_plan plan;
  std::vector<slot_index> looked_at;
  while (plan.freed_bytes < bytes_needed && !heap_.empty()) {
    const slot_index slot = heap_.front();
    take_out(slot);
    looked_at.push_back(slot);
    if (!allowed(slot)) continue;
    plan.victims.push_back(slot);
    plan.freed_bytes += items_[slot].bytes;
  }
  for (const slot_index slot : looked_at)
    push(slot);
  return plan;
}

void cost_eviction::appraise(item& it) {
  const auto bytes = static_cast<double>(std::max<std::uint64_t>(1, it.bytes));
  it.worth = floor_ + static_cast<double>(it.uses) * static_cast<double>(it.recompute_cost) / bytes;
  it.number = next_number_++;
}

bool cost_eviction::less(slot_index a, slot_index b) const {
  const item& x = items_[a];
  const item& y = items_[b];
  return x.worth != y.worth ? x.worth < y.worth : x.number < y.number;
}

void cost_eviction::put(slot_index slot, std::uint32_t at) {
  heap_[at] = slot;
  items_[slot].heap_at = at;
}

void cost_eviction::rise(std::uint32_t at) {
  const slot_index slot = heap_[at];
  for (; at > 0; at = (at - 1) / 2) {
    const slot_index parent = heap_[(at - 1) / 2];
    if (!less(slot, parent)) break;
    put(parent, at);
  }
  put(slot, at);
}

void cost_eviction::sink(std::uint32_t at) {
  const slot_index slot = heap_[at];
  const auto end = static_cast<std::uint32_t>(heap_.size());
  for (std::uint32_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
    if (child + 1 < end && less(heap_[child + 1], heap_[child])) ++child;
    if (!less(heap_[child], slot)) break;
    put(heap_[child], at);
    at = child;
  }
  put(slot, at);
}

void cost_eviction::push(slot_index slot) {
  heap_.push_back(slot);
  rise(static_cast<std::uint32_t>(heap_.size() - 1));
}

void cost_eviction::take_out(slot_index slot) {
  const std::uint32_t at = items_[slot].heap_at;
  const slot_index last = heap_.back();
  heap_.pop_back();
  if (last == slot) return;
  put(last, at);
  rise(at);
  sink(items_[last].heap_at);
}

}  // namespace weft::policies
