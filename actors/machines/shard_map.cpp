#include <weft/machines/shard_map.hpp>

#include "rendezvous.hpp"

#include <algorithm>

namespace weft::machines {

shard_map::shard_map(const view& v) : epoch_(v.epoch) {
  nodes_.reserve(v.members.size());
  for (const member& m : v.members)
    nodes_.push_back(m.ref);
  std::ranges::sort(nodes_);  // equal views give equal maps, whatever the names are
}

std::size_t shard_map::shard_of(const id128& key) const {
  std::size_t best = 0;
  std::uint64_t best_weight = rendezvous_weight(key, nodes_[0].node);
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    const std::uint64_t weight = rendezvous_weight(key, nodes_[i].node);
    if (weight > best_weight) {
      best = i;
      best_weight = weight;
    }
  }
  return best;
}

std::vector<std::vector<std::uint32_t>> shard_map::split(std::span<const id128> keys) const {
  std::vector<std::vector<std::uint32_t>> parts(nodes_.size());
  if (nodes_.empty()) return parts;
  for (std::uint32_t i = 0; i < keys.size(); ++i)
    parts[shard_of(keys[i])].push_back(i);
  return parts;
}

}  // namespace weft::machines
