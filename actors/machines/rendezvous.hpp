// Rendezvous hashing among equals, a few instructions for each key and node: a lookup of many keys asks it
// for all nodes of a cluster. (Where shares differ, `policies::place` is the one.)
#pragma once

#include <weft/machines/node_ref.hpp>

#include <cstdint>

namespace weft::machines {

// The node with the greatest weight gets the key; a node that comes or goes changes no other pair's weight.
// The incarnation plays no part, so that a node that comes back gets its keys again.
constexpr std::uint64_t rendezvous_weight(const id128& key, const id128& node) {
  std::uint64_t h = (key.low ^ node.low) * 0xff51afd7ed558ccdULL;
  h ^= (h >> 32) ^ key.high ^ (node.high * 0x9e3779b97f4a7c15ULL);
  h *= 0xc4ceb9fe1a85ec53ULL;
  h ^= h >> 29;
  h *= 0x94d049bb133111ebULL;
  return h ^ (h >> 32);
}

}  // namespace weft::machines
