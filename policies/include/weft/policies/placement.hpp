// Which nodes a key belongs to: weighted rendezvous hashing.
//
// Every node draws a number for the key; the largest draws win. A node that joins or leaves takes or gives up
// only its own share, in proportion to its weight. Integers only, so that all nodes agree to the last bit.
#pragma once

#include <weft/base/id128.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::policies {

struct weighted_node {
  id128 id;
  std::uint64_t weight = 1;  // its share of the keys, e.g. capacity in bytes; 0: none
};

// The best `replicas` nodes for the key, best first; fewer when there are not as many with a weight. Depends
// neither on the order of `nodes` nor, for the order of any two nodes, on the others. Ids in `nodes` are
// distinct.
std::vector<id128> place(const id128& key, std::span<const weighted_node> nodes, std::size_t replicas);

// The best node alone; the zero id when none has a weight.
id128 owner_of(const id128& key, std::span<const weighted_node> nodes);

}  // namespace weft::policies
