#include <weft/policies/placement.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

using namespace weft;
using namespace weft::policies;

namespace {

std::vector<weighted_node> nodes_with_weights(const std::vector<std::uint64_t>& weights) {
  std::vector<weighted_node> nodes;
  for (std::size_t i = 0; i < weights.size(); ++i)
    nodes.push_back({{0x77656674, i + 1}, weights[i]});
  return nodes;
}

std::vector<id128> random_keys(std::size_t count) {
  std::mt19937_64 random(9);
  std::vector<id128> keys(count);
  for (id128& key : keys)
    key = {random(), random()};
  return keys;
}

// Six standard deviations of a binomial count: not once in 10^8 by chance, and the seed is fixed.
double tolerance(double keys, double share) {
  return 6 * std::sqrt(keys * share * (1 - share)) + keys * share / 1000;
}

}  // namespace

TEST_CASE("each node owns keys in proportion to its weight") {
  const std::vector<std::vector<std::uint64_t>> cases{
      {1, 1, 1}, {1, 2, 3, 4}, {1000, 1, 1}, {1ULL << 40, 3ULL << 40, 1ULL << 39}, {~0ULL, ~0ULL >> 1}};
  const auto keys = random_keys(40000);
  for (const auto& weights : cases) {
    const auto nodes = nodes_with_weights(weights);
    double total = 0;
    for (const auto w : weights)
      total += static_cast<double>(w);
    std::map<id128, double> owned;
    for (const id128& key : keys)
      ++owned[owner_of(key, nodes)];
    for (const weighted_node& node : nodes) {
      const double share = static_cast<double>(node.weight) / total;
      CAPTURE(share);
      CHECK(std::abs(owned[node.id] - share * 40000) <= tolerance(40000, share));
    }
  }
}

TEST_CASE("a node that leaves gives up its own keys only, and the rest of the order stays") {
  const auto nodes = nodes_with_weights({5, 1, 3, 2, 7});
  for (std::size_t gone = 0; gone < nodes.size(); ++gone) {
    auto remaining = nodes;
    remaining.erase(remaining.begin() + static_cast<std::ptrdiff_t>(gone));
    for (const id128& key : random_keys(500)) {
      auto expected = place(key, nodes, nodes.size());
      std::erase(expected, nodes[gone].id);
      REQUIRE(place(key, remaining, remaining.size()) == expected);
    }
  }
}

TEST_CASE("a node that joins takes its share from all, and moves nothing between the others") {
  auto nodes = nodes_with_weights({4, 4, 4, 4});
  const auto keys = random_keys(20000);
  std::vector<id128> before;
  for (const id128& key : keys)
    before.push_back(owner_of(key, nodes));
  nodes.push_back({{1, 2}, 4});
  std::size_t moved = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const id128 owner = owner_of(keys[i], nodes);
    if (owner == before[i]) continue;
    ++moved;
    REQUIRE(owner == id128{1, 2});
  }
  CHECK(std::abs(static_cast<double>(moved) - 4000) <= tolerance(20000, 0.2));
}

TEST_CASE("a node that grows only gains") {
  auto nodes = nodes_with_weights({2, 2, 2});
  const auto keys = random_keys(3000);
  std::vector<id128> before;
  for (const id128& key : keys)
    before.push_back(owner_of(key, nodes));
  nodes[1].weight = 3;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const id128 owner = owner_of(keys[i], nodes);
    REQUIRE((owner == before[i] || owner == nodes[1].id));
  }
}

TEST_CASE("the order in which nodes are named and a common factor of weights do not matter") {
  std::mt19937 random(3);
  auto nodes = nodes_with_weights({1, 2, 3, 4, 5, 6, 7});
  for (const id128& key : random_keys(200)) {
    const auto expected = place(key, nodes, 3);
    auto shuffled = nodes;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    for (weighted_node& node : shuffled)
      node.weight *= 1000;
    REQUIRE(place(key, shuffled, 3) == expected);
    REQUIRE(owner_of(key, shuffled) == expected[0]);
  }
}

TEST_CASE("replicas are distinct, as many as asked for or as there are") {
  const auto nodes = nodes_with_weights({1, 0, 3, 4});
  for (const id128& key : random_keys(200)) {
    const auto holders = place(key, nodes, 2);
    REQUIRE(holders.size() == 2);
    REQUIRE(holders[0] != holders[1]);
    const auto all = place(key, nodes, 9);
    REQUIRE(std::set<id128>(all.begin(), all.end()).size() == 3);
    REQUIRE(std::find(all.begin(), all.end(), nodes[1].id) == all.end());
  }
  CHECK(place({1, 2}, nodes, 0).empty());
  CHECK(place({1, 2}, {}, 2).empty());
  CHECK(owner_of({1, 2}, {}) == id128{});
  CHECK(owner_of({1, 2}, nodes_with_weights({0, 0})) == id128{});
}

// Nodes of different builds must agree: what is below never changes. Computed by placement_vectors.py.
TEST_CASE("placements are those of every other build") {
  const auto nodes = nodes_with_weights({1, 2, 3, 4, 5});
  std::vector<std::uint64_t> order;
  for (std::uint64_t i = 0; i < 8; ++i)
    for (const id128& id : place({0x0123456789abcdef + i, 0xfedcba9876543210}, nodes, 5))
      order.push_back(id.low);
  const std::vector<std::uint64_t> expected{5, 2, 4, 1, 3, 5, 3, 4, 1, 2, 4, 3, 2, 5, 1, 2, 5, 3, 4, 1,
                                            3, 2, 4, 5, 1, 5, 4, 2, 3, 1, 4, 2, 3, 5, 1, 4, 5, 2, 3, 1};
  CHECK(order == expected);
}
