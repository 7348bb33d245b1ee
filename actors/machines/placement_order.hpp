// The storage nodes in the order in which a key's copies are placed on them: writers and those who guess
// where writers put things agree on it.
#pragma once

#include <weft/machines/node_ref.hpp>
#include <weft/policies/placement.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace weft::machines {

class placement_order {
 public:
  // `shares` by node; empty: equal ones. Of several lives of one node the last counts.
  placement_order(std::span<const node_ref> nodes, std::span<const std::uint64_t> shares);

  std::span<const node_ref> nodes() const { return nodes_; }

  // Indexes into `nodes()`, first choice first, at most `limit`.
  std::vector<std::uint16_t> of(const id128& key, std::size_t limit) const;

 private:
  std::vector<node_ref> nodes_;
  std::vector<policies::weighted_node> weighted_;
  std::unordered_map<id128, std::uint16_t> index_;
};

}  // namespace weft::machines
