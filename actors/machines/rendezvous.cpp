#include "rendezvous.hpp"

#include <algorithm>
#include <numeric>

namespace weft::machines {

std::vector<std::uint16_t> rendezvous_order(const id128& key, std::span<const node_ref> nodes) {
  std::vector<std::uint64_t> weights;
  weights.reserve(nodes.size());
  for (const node_ref& n : nodes)
    weights.push_back(rendezvous_weight(key, n.node));
  std::vector<std::uint16_t> order(nodes.size());
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  std::ranges::stable_sort(order, std::greater{}, [&](std::uint16_t i) { return weights[i]; });
  return order;
}

}  // namespace weft::machines
