// Rendezvous hashing: every key ranks the nodes in its own order, and a node that comes or goes changes no
// other pair's rank.
#pragma once

#include <weft/machines/node_ref.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::machines {

// The node with the greatest weight is the key's first choice. The incarnation plays no part, so that a node
// that comes back gets its keys again.
constexpr std::uint64_t rendezvous_weight(const id128& key, const id128& node) {
  std::uint64_t h = (key.low ^ node.low) * 0xff51afd7ed558ccdULL;
  h ^= (h >> 32) ^ key.high ^ (node.high * 0x9e3779b97f4a7c15ULL);
  h *= 0xc4ceb9fe1a85ec53ULL;
  h ^= h >> 29;
  h *= 0x94d049bb133111ebULL;
  return h ^ (h >> 32);
}

// Indexes into `nodes`, first choice first.
std::vector<std::uint16_t> rendezvous_order(const id128& key, std::span<const node_ref> nodes);

}  // namespace weft::machines
