#include "placement_order.hpp"

#include <doctest/doctest.h>

#include "builders.hpp"

#include <algorithm>

namespace weft::machines::test {

TEST_CASE("each node is named once, the order does not hang on how the nodes are listed") {
  const std::vector nodes{node(0), node(1), node(2), node(3)};
  const std::vector reversed{node(3), node(2), node(1), node(0)};
  const placement_order a(nodes, {});
  const placement_order b(reversed, {});
  for (std::uint64_t k = 0; k < 200; ++k) {
    const auto order = a.of(key_of(k), 10);
    const auto other = b.of(key_of(k), 10);
    REQUIRE(order.size() == 4);
    for (std::size_t i = 0; i < 4; ++i)
      REQUIRE(a.nodes()[order[i]] == b.nodes()[other[i]]);
    auto sorted = order;
    std::ranges::sort(sorted);
    REQUIRE(sorted == std::vector<std::uint16_t>{0, 1, 2, 3});
    REQUIRE(a.of(key_of(k), 1) == std::vector{order[0]});
  }
}

TEST_CASE("shares decide how often a node comes first") {
  const std::vector nodes{node(0), node(1)};
  const placement_order placement(nodes, std::vector<std::uint64_t>{1, 3});
  int second = 0;
  for (std::uint64_t k = 0; k < 10'000; ++k)
    second += placement.of(key_of(k), 1).at(0) == 1 ? 1 : 0;
  CHECK(second > 7'200);
  CHECK(second < 7'800);
}

TEST_CASE("of two lives of a node the later one is meant") {
  const placement_order placement(std::vector{node(0, 1), node(0, 4), node(0, 2)}, {});
  REQUIRE(placement.nodes().size() == 1);
  CHECK(placement.nodes()[0] == node(0, 4));
}

}  // namespace weft::machines::test
