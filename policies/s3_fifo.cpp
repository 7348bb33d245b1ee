#include <weft/policies/s3_fifo.hpp>

#include <utility>

namespace weft::policies {
namespace {

constexpr std::uint8_t most_uses = 3;
constexpr std::uint8_t uses_to_stay = 2;  // while in the small queue

}  // namespace

s3_fifo::s3_fifo(std::uint64_t capacity_bytes)
    : small_bytes_(capacity_bytes / 10), ghosts_(capacity_bytes - capacity_bytes / 10) {}

void s3_fifo::admit(slot_index slot, const item_facts& facts) {
  if (slot >= nodes_.size()) nodes_.resize(std::size_t{slot} + 1);
  nodes_[slot].bytes = facts.bytes;
  nodes_[slot].identity = facts.identity;
  nodes_[slot].uses = 0;
  link_as_newest(slot, ghosts_.take(facts.identity) ? place::main : place::small);
  ++size_;
}

void s3_fifo::touch(slot_index slot) {
  if (holds(slot) && nodes_[slot].uses < most_uses) ++nodes_[slot].uses;
}

void s3_fifo::remove(slot_index slot, bool evicted) {
  const bool was_small = nodes_[slot].where == place::small;
  unlink(slot);
  --size_;
  if (evicted && was_small) ghosts_.add(nodes_[slot].identity, nodes_[slot].bytes, 0);
}

void s3_fifo::resize(slot_index slot, std::uint64_t bytes) {
  of(nodes_[slot].where).bytes += bytes - nodes_[slot].bytes;
  nodes_[slot].bytes = bytes;
}

s3_fifo::place s3_fifo::next_to_leave() const {
  const queue& small = queues_[0];
  const queue& main = queues_[1];
  if (small.oldest == none) return place::main;
  return small.bytes > small_bytes_ || main.oldest == none ? place::small : place::main;
}

// Candidates are taken out of their queues, so that none comes up twice, and put back at the end: at the old
// side those that were chosen, at the new side those that may not go.
eviction_plan s3_fifo::victims(std::uint64_t bytes_needed, const may_go& allowed) {
  eviction_plan plan;
  std::vector<std::pair<slot_index, place>> chosen;
  std::vector<std::pair<slot_index, place>> kept;
  while (plan.freed_bytes < bytes_needed) {
    const place where = next_to_leave();
    const slot_index slot = of(where).oldest;
    if (slot == none) break;
    unlink(slot);
    std::uint8_t& uses = nodes_[slot].uses;
    if (!allowed(slot)) {
      kept.emplace_back(slot, where);
    } else if (where == place::small && uses >= uses_to_stay) {
      uses = 0;
      link_as_newest(slot, place::main);
    } else if (where == place::main && uses > 0) {
      --uses;
      link_as_newest(slot, place::main);
    } else {
      chosen.emplace_back(slot, where);
      plan.victims.push_back(slot);
      plan.freed_bytes += nodes_[slot].bytes;
    }
  }
  for (const auto& [slot, where] : kept)
    link_as_newest(slot, where);
  for (auto at = chosen.rbegin(); at != chosen.rend(); ++at)
    link_as_oldest(at->first, at->second);
  return plan;
}

void s3_fifo::link_as_newest(slot_index slot, place where) {
  queue& q = of(where);
  node& n = nodes_[slot];
  n.where = where;
  n.older = q.newest;
  n.newer = none;
  (q.newest == none ? q.oldest : nodes_[q.newest].newer) = slot;
  q.newest = slot;
  q.bytes += n.bytes;
}

void s3_fifo::link_as_oldest(slot_index slot, place where) {
  queue& q = of(where);
  node& n = nodes_[slot];
  n.where = where;
  n.older = none;
  n.newer = q.oldest;
  (q.oldest == none ? q.newest : nodes_[q.oldest].older) = slot;
  q.oldest = slot;
  q.bytes += n.bytes;
}

void s3_fifo::unlink(slot_index slot) {
  node& n = nodes_[slot];
  queue& q = of(n.where);
  (n.older == none ? q.oldest : nodes_[n.older].newer) = n.newer;
  (n.newer == none ? q.newest : nodes_[n.newer].older) = n.older;
  q.bytes -= n.bytes;
  n.where = place::nowhere;
}

}  // namespace weft::policies
