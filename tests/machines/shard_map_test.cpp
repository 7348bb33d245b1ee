#include <weft/machines/shard_map.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

#include <algorithm>

namespace weft::machines::test {
namespace {

view view_of(std::uint64_t nodes) {
  view v{.epoch = nodes, .members = {}};
  for (std::uint64_t n = 0; n < nodes; ++n)
    v.members.push_back(member_of(n));
  return v;
}

}  // namespace

TEST_CASE("shards are of about equal size") {
  const shard_map map(view_of(8));
  std::vector<std::size_t> counts(8);
  for (std::uint64_t k = 0; k < 80'000; ++k)
    ++counts[map.shard_of(key_of(k))];
  CHECK(*std::ranges::min_element(counts) > 9'400);
  CHECK(*std::ranges::max_element(counts) < 10'600);
}

TEST_CASE("a node that leaves moves its own keys only") {
  const shard_map before(view_of(8));
  view smaller = view_of(8);
  const node_ref gone = smaller.members[3].ref;
  smaller.members.erase(smaller.members.begin() + 3);
  const shard_map after(smaller);
  for (std::uint64_t k = 0; k < 10'000; ++k) {
    const node_ref owner = before.owner_of(key_of(k));
    if (owner != gone) REQUIRE(after.owner_of(key_of(k)) == owner);
  }
}

TEST_CASE("a later life of a node keeps its keys") {
  view later = view_of(4);
  later.members[2].ref.incarnation = 9;
  const shard_map a(view_of(4));
  const shard_map b(later);
  for (std::uint64_t k = 0; k < 1'000; ++k) {
    REQUIRE(a.owner_of(key_of(k)).node == b.owner_of(key_of(k)).node);
  }
}

TEST_CASE("a batch is split into the parts of the shards") {
  const shard_map map(view_of(3));
  std::vector<id128> keys;
  for (std::uint64_t k = 0; k < 100; ++k)
    keys.push_back(key_of(k));
  const auto parts = map.split(keys);
  REQUIRE(parts.size() == 3);
  std::size_t total = 0;
  for (std::size_t shard = 0; shard < parts.size(); ++shard) {
    total += parts[shard].size();
    for (const std::uint32_t i : parts[shard])
      CHECK(map.shard_of(keys[i]) == shard);
  }
  CHECK(total == keys.size());
  CHECK(shard_map{}.empty());
}

}  // namespace weft::machines::test
