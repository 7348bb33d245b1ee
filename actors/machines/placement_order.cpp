#include "placement_order.hpp"

#include <algorithm>

namespace weft::machines {

placement_order::placement_order(std::span<const node_ref> nodes, std::span<const std::uint64_t> shares) {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const auto [at, fresh] = index_.try_emplace(nodes[i].node, static_cast<std::uint16_t>(nodes_.size()));
    if (!fresh) {
      nodes_[at->second] = std::max(nodes_[at->second], nodes[i]);
      continue;
    }
    nodes_.push_back(nodes[i]);
    weighted_.push_back({.id = nodes[i].node, .weight = i < shares.size() ? shares[i] : 1});
  }
}

std::vector<std::uint16_t> placement_order::of(const id128& key, std::size_t limit) const {
  std::vector<std::uint16_t> order;
  for (const id128& node : policies::place(key, weighted_, limit))
    order.push_back(index_.at(node));
  return order;
}

}  // namespace weft::machines
