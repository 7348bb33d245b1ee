#include <weft/policies/lru.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <set>
#include <stdexcept>

using namespace weft::policies;

namespace {

bool anything(slot_index) {
  return true;
}

std::vector<slot_index> order_of(eviction_policy& policy) {
  return policy.victims(~std::uint64_t{0}, anything).victims;
}

// The obvious way, to compare with.
struct model {
  std::list<slot_index> oldest_first;
  std::map<slot_index, std::uint64_t> bytes;

  void use(slot_index slot) {
    oldest_first.remove(slot);
    oldest_first.push_back(slot);
  }
  eviction_plan victims(std::uint64_t needed, const std::set<slot_index>& pinned) const {
    eviction_plan plan;
    for (const slot_index slot : oldest_first) {
      if (plan.freed_bytes >= needed) break;
      if (pinned.contains(slot)) continue;
      plan.victims.push_back(slot);
      plan.freed_bytes += bytes.at(slot);
    }
    return plan;
  }
};

}  // namespace

TEST_CASE("what was used longest ago goes first") {
  lru policy;
  for (slot_index slot : {3u, 1u, 7u})
    policy.insert(slot, 10);
  CHECK(order_of(policy) == std::vector<slot_index>{3, 1, 7});
  policy.touch(3);
  CHECK(order_of(policy) == std::vector<slot_index>{1, 7, 3});
  policy.erase(7);
  CHECK(order_of(policy) == std::vector<slot_index>{1, 3});
}

TEST_CASE("no more goes than is needed, and nothing that may not go") {
  lru policy;
  policy.insert(0, 10);
  policy.insert(1, 20);
  policy.insert(2, 30);
  CHECK(policy.victims(0, anything).victims.empty());
  CHECK(policy.victims(10, anything).victims == std::vector<slot_index>{0});
  CHECK(policy.victims(11, anything).victims == std::vector<slot_index>{0, 1});
  const auto without_oldest = policy.victims(11, [](slot_index slot) { return slot != 0; });
  CHECK(without_oldest.victims == std::vector<slot_index>{1});
  CHECK(without_oldest.freed_bytes == 20);
  const auto too_little = policy.victims(100, [](slot_index slot) { return slot != 2; });
  CHECK(too_little.freed_bytes == 30);
  CHECK(policy.size() == 3);
}

TEST_CASE("slots that are not held are ignored, and none is inserted twice") {
  lru policy(4);
  policy.touch(5);
  policy.erase(5);
  policy.insert(5, 1);
  CHECK_THROWS_AS(policy.insert(5, 1), std::logic_error);
  CHECK_THROWS_AS(policy.insert(~slot_index{0}, 1), std::logic_error);
  policy.erase(5);
  policy.insert(5, 2);
  CHECK(policy.bytes() == 2);
}

TEST_CASE("any sequence of calls gives what the obvious way gives") {
  std::mt19937 random(5);
  for (int round = 0; round < 30; ++round) {
    lru policy;
    model expected;
    for (int step = 0; step < 300; ++step) {
      const slot_index slot = random() % 12;
      const bool held = expected.bytes.contains(slot);
      REQUIRE(policy.holds(slot) == held);
      if (!held) {
        expected.bytes[slot] = random() % 50;
        policy.insert(slot, expected.bytes[slot]);
        expected.use(slot);
      } else if (random() % 3 != 0) {
        policy.touch(slot);
        expected.use(slot);
      } else {
        policy.erase(slot);
        expected.oldest_first.remove(slot);
        expected.bytes.erase(slot);
      }
      std::set<slot_index> pinned;
      for (int i = 0; i < 3; ++i)
        pinned.insert(random() % 12);
      const std::uint64_t needed = random() % 200;
      const auto plan = policy.victims(needed, [&](slot_index s) { return !pinned.contains(s); });
      const auto reference = expected.victims(needed, pinned);
      REQUIRE(plan.victims == reference.victims);
      REQUIRE(plan.freed_bytes == reference.freed_bytes);
    }
  }
}
