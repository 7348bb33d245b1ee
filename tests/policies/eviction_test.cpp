// What holds for every eviction policy, and what sets each apart.
#include <weft/policies/cost_eviction.hpp>
#include <weft/policies/eviction.hpp>
#include <weft/policies/s3_fifo.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>
#include <stdexcept>

using namespace weft::policies;

namespace {

constexpr std::array all_kinds{eviction_kind::lru, eviction_kind::s3_fifo, eviction_kind::cost};
constexpr std::uint64_t everything = ~std::uint64_t{0};

bool anything(slot_index) {
  return true;
}

std::vector<slot_index> order_of(eviction_policy& policy) {
  return policy.victims(everything, anything).victims;
}

std::vector<slot_index> sorted(std::vector<slot_index> slots) {
  std::ranges::sort(slots);
  return slots;
}

}  // namespace

TEST_CASE("policies are found by the names that the cluster file has for them") {
  for (const auto kind : all_kinds)
    CHECK(eviction_from_name(name_of(kind)) == kind);
  CHECK(!eviction_from_name("mru"));
}

TEST_CASE("every policy: any sequence of calls keeps the books, and plans name only what may go") {
  std::mt19937 random(7);
  for (const auto kind : all_kinds) {
    CAPTURE(name_of(kind));
    for (int round = 0; round < 40; ++round) {
      const auto policy = make_eviction(kind, 400);
      std::map<slot_index, std::uint64_t> held;
      for (int step = 0; step < 300; ++step) {
        const slot_index slot = random() % 16;
        const auto at = held.find(slot);
        if (at == held.end()) {
          const std::uint64_t bytes = random() % 50 + 1;
          policy->insert(slot,
                         {.bytes = bytes, .identity = random() % 30 + 1, .recompute_cost = random() % 9});
          CHECK_THROWS_AS(policy->insert(slot, 1), std::logic_error);
          held[slot] = bytes;
        } else if (const auto dice = random() % 6; dice < 4) {
          policy->touch(slot);
        } else {
          dice == 4 ? policy->erase(slot) : policy->evict(slot);
          held.erase(at);
        }
        const std::set pinned{slot_index(random() % 16), slot_index(random() % 16)};
        const std::uint64_t needed = random() % 200;
        const auto plan = policy->victims(needed, [&](slot_index s) { return !pinned.contains(s); });
        std::uint64_t bytes = 0;
        std::uint64_t before_last = 0;
        for (const slot_index victim : plan.victims) {
          REQUIRE(held.contains(victim));
          REQUIRE(!pinned.contains(victim));
          before_last = bytes;
          bytes += held[victim];
        }
        REQUIRE(bytes == plan.freed_bytes);
        if (!plan.victims.empty()) REQUIRE(before_last < needed);
        REQUIRE(std::set(plan.victims.begin(), plan.victims.end()).size() == plan.victims.size());
        std::uint64_t free_to_go = 0;
        for (const auto& [s, b] : held)
          free_to_go += pinned.contains(s) ? 0 : b;
        REQUIRE(plan.freed_bytes >= std::min(needed, free_to_go));
        REQUIRE(policy->size() == held.size());
      }
      CHECK(order_of(*policy).size() == held.size());
      for (const auto& [slot, bytes] : held)
        CHECK(policy->holds(slot));
    }
  }
}

TEST_CASE("every policy: bands of cold items go before items do") {
  constexpr std::array<std::uint64_t, 3> ends{10, 30, 60};
  for (const auto kind : all_kinds) {
    CAPTURE(name_of(kind));
    const auto policy = make_eviction(kind, 1000);
    for (slot_index slot = 0; slot < 4; ++slot)
      policy->insert(slot, {.bytes = 60, .identity = slot + 1, .recompute_cost = 60, .band_ends = ends});
    const auto little = policy->trims_and_victims(25, anything);
    CHECK(little.victims.empty());
    CHECK(little.trims == std::vector<band_trim>{{0, 2}});
    CHECK(little.freed_bytes == 30);
    const auto more = policy->trims_and_victims(90, anything);
    CHECK(more.victims.empty());
    CHECK(more.trims == std::vector<band_trim>{{0, 1}, {1, 1}});
    CHECK(more.freed_bytes == 100);

    for (const band_trim& t : more.trims)
      policy->trim(t.slot, t.keep_bands);
    CHECK(policy->bytes() == 140);
    const auto rest = policy->trims_and_victims(135, anything);
    CHECK(rest.freed_bytes >= 135);
    CHECK(!rest.victims.empty());
    for (const band_trim& t : rest.trims)
      CHECK(std::ranges::find(rest.victims, t.slot) == rest.victims.end());
  }
}

TEST_CASE("every policy: what has one band goes as a whole, and nothing pinned is trimmed") {
  constexpr std::array<std::uint64_t, 2> ends{20, 40};
  for (const auto kind : all_kinds) {
    CAPTURE(name_of(kind));
    const auto policy = make_eviction(kind, 1000);
    policy->insert(0, {.bytes = 40, .band_ends = ends});
    policy->insert(1, 40);
    const auto plan = policy->trims_and_victims(30, [](slot_index slot) { return slot != 0; });
    CHECK(plan.trims.empty());
    CHECK(plan.victims == std::vector<slot_index>{1});
    policy->trim(1, 1);
    policy->trim(0, 2);
    CHECK(policy->bytes() == 80);
  }
}

TEST_CASE("s3_fifo: what is read once leaves past what is read again") {
  s3_fifo policy(100);
  for (slot_index slot = 0; slot < 10; ++slot)
    policy.insert(slot, {.bytes = 10, .identity = slot + 1});
  for (int use = 0; use < 2; ++use) {
    policy.touch(0);
    policy.touch(1);
  }
  const auto order = policy.victims(70, anything).victims;
  CHECK(order == std::vector<slot_index>{2, 3, 4, 5, 6, 7, 8});
  CHECK(policy.in_main(0));
  CHECK(policy.in_main(1));
  CHECK(!policy.in_main(9));
}

TEST_CASE("s3_fifo: what comes back soon after it left enters the main queue; what comes late does not") {
  s3_fifo policy(100);
  policy.insert(0, {.bytes = 10, .identity = 77});
  policy.evict(0);
  policy.insert(1, {.bytes = 10, .identity = 77});
  CHECK(policy.in_main(1));
  policy.erase(1);

  policy.insert(0, {.bytes = 10, .identity = 78});
  policy.evict(0);
  for (std::uint64_t other = 100; other < 109; ++other) {
    policy.insert(0, {.bytes = 10, .identity = other});
    policy.evict(0);
  }
  policy.insert(0, {.bytes = 10, .identity = 78});
  CHECK(!policy.in_main(0));

  policy.erase(0);  // by its owner: no sign that it was evicted too early
  policy.insert(0, {.bytes = 10, .identity = 500});
  policy.erase(0);
  policy.insert(0, {.bytes = 10, .identity = 500});
  CHECK(!policy.in_main(0));
}

TEST_CASE("s3_fifo: a scan leaves the main queue alone") {
  s3_fifo policy(100);
  for (slot_index slot = 0; slot < 8; ++slot) {
    policy.insert(slot, {.bytes = 10, .identity = slot + 1});
    policy.touch(slot);
    policy.touch(slot);
  }
  policy.victims(10, anything);  // moves them to the main queue
  for (slot_index scanned = 0; scanned < 100; ++scanned) {
    policy.insert(8 + scanned % 3, {.bytes = 10, .identity = 1000 + scanned});
    if (policy.bytes() <= 100) continue;
    const auto gone = policy.victims(10, anything).victims;
    REQUIRE(gone.size() == 1);
    CHECK(gone[0] >= 8);
    policy.evict(gone[0]);
  }
}

TEST_CASE("cost: cheap, large and rarely used items go first") {
  cost_eviction policy(1000);
  policy.insert(0, {.bytes = 10, .recompute_cost = 10});
  policy.insert(1, {.bytes = 10, .recompute_cost = 30});
  policy.insert(2, {.bytes = 100, .recompute_cost = 30});
  policy.insert(3, {.bytes = 10, .recompute_cost = 10});
  for (int use = 0; use < 3; ++use)
    policy.touch(3);
  CHECK(order_of(policy) == std::vector<slot_index>{2, 0, 1, 3});
}

TEST_CASE("cost: what was used much long ago yields at last to what is used now") {
  cost_eviction policy(1000);
  policy.insert(0, {.bytes = 10, .recompute_cost = 10});
  for (int use = 0; use < 5; ++use)
    policy.touch(0);
  slot_index next = 1;
  for (int i = 0; i < 20 && policy.holds(0); ++i) {
    policy.insert(next, {.bytes = 10, .recompute_cost = 10});
    policy.touch(next);
    next = 3 - next;
    if (policy.size() == 3) policy.evict(order_of(policy).front());
  }
  CHECK(!policy.holds(0));
}

TEST_CASE("cost: uses are remembered for a while after an item went") {
  cost_eviction policy(1000);
  policy.insert(0, {.bytes = 10, .identity = 5});
  for (int use = 0; use < 4; ++use)
    policy.touch(0);
  policy.evict(0);
  policy.insert(1, {.bytes = 10, .identity = 6});
  policy.insert(2, {.bytes = 10, .identity = 5});
  CHECK(sorted(order_of(policy)) == std::vector<slot_index>{1, 2});
  policy.insert(3, {.bytes = 10, .identity = 7});
  CHECK(order_of(policy) == std::vector<slot_index>{1, 3, 2});
}
