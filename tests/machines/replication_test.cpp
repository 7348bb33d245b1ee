#include <weft/machines/replication.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"
#include "placement_order.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace weft::machines::test {
namespace {

replication_options two_copies() {
  replication_options options;
  options.block_copies = 2;
  return options;
}

held_item item(std::uint64_t n, std::uint64_t bytes = 4096) {
  return {.key = key_of(n), .kind = item_kind::block, .bytes = bytes};
}

// Several storage nodes with their planners, and a directory that knows everything.
struct storage_nodes {
  std::vector<node_ref> nodes;
  std::map<node_ref, replication> planners;
  std::map<node_ref, std::set<id128>> held;
  std::set<node_ref> full;
  std::uint64_t item_bytes = 4096;
  unsigned tenants = 1;
  std::size_t offers = 0;
  std::uint64_t bytes = 0;

  storage_nodes(std::size_t count, const replication_options& options) {
    for (std::size_t n = 0; n < count; ++n)
      nodes.push_back(node(n));
    for (const auto& n : nodes)
      planners.emplace(n, replication(options));
  }

  void place(std::uint64_t keys, std::size_t copies) {
    const placement_order order(nodes, {});
    for (std::uint64_t k = 0; k < keys; ++k) {
      for (const auto index : order.of(key_of(k), copies))
        held[nodes[index]].insert(key_of(k));
    }
  }

  // Every second key is of tenant 1, where there are several.
  std::uint32_t tenant_of(const id128& key) const { return tenants > 1 ? key.low % 2 : 0; }

  void lose(const node_ref& n) {
    std::erase(nodes, n);
    planners.erase(n);
    held.erase(n);
  }

  std::size_t copies_of(const id128& key) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(held, [&](const auto& h) { return h.second.contains(key); }));
  }

  key_holders holders(const id128& key) const {
    key_holders found;
    for (const auto& [n, keys] : held) {
      if (keys.contains(key)) found.holders.push_back(n);
    }
    return found;
  }

  void act(const node_ref& n, std::vector<replication_action> actions, time_point now) {
    auto& planner = planners.at(n);
    for (auto& action : actions) {
      if (const auto* list = std::get_if<list_held>(&action)) {
        std::vector<held_item> page;
        if (list->from_start) {
          for (const auto& key : held[n])
            page.push_back({.key = key, .bytes = item_bytes, .tenant = tenant_of(key)});
        }
        act(n, planner.on_held(std::move(page), now), now);
      } else if (const auto* find = std::get_if<find_holders>(&action)) {
        std::vector<key_holders> answers;
        for (const auto& key : find->keys)
          answers.push_back(holders(key));
        act(n, planner.on_holders(find->call, std::move(answers), now), now);
      } else if (const auto* offer = std::get_if<offer_copies>(&action)) {
        ++offers;
        for (const auto& i : offer->items)
          CHECK(i.tenant == offer->items.front().tenant);
        std::vector<errc> outcomes;
        for (const auto& i : offer->items) {
          const bool takes = !full.contains(offer->target);
          outcomes.push_back(takes ? errc::ok : errc::out_of_space);
          if (!takes) continue;
          CHECK(held[offer->target].insert(i.key).second);
          bytes += i.bytes;
        }
        act(n, planner.on_offered(offer->call, std::move(outcomes), now), now);
      }
    }
  }

  void run(std::int64_t from_ms, std::int64_t to_ms) {
    for (std::int64_t ms = from_ms; ms <= to_ms; ms += 100) {
      for (const auto& n : nodes) {
        planners.at(n).on_view(n, nodes, {}, at_ms(ms));
        act(n, planners.at(n).tick(at_ms(ms)), at_ms(ms));
      }
    }
  }
};

}  // namespace

TEST_CASE("after a holder is lost every block has its copies again, made once") {
  storage_nodes cluster(4, two_copies());
  cluster.place(500, 2);
  cluster.run(0, 2000);
  CHECK(cluster.offers == 0);
  cluster.lose(node(1));
  cluster.run(2100, 4000);
  for (std::uint64_t k = 0; k < 500; ++k)
    CHECK(cluster.copies_of(key_of(k)) == 2);
  CHECK(cluster.offers > 0);
  for (const auto& n : cluster.nodes)
    CHECK(cluster.planners.at(n).resting());
}

TEST_CASE("a tenant has its own number of copies, and offers of its own") {
  auto options = two_copies();
  options.tenant_copies = {{1, 3}};
  storage_nodes all(5, options);
  all.tenants = 2;
  all.place(200, 2);
  all.run(0, 20'000);
  for (std::uint64_t k = 0; k < 200; ++k)
    REQUIRE(all.copies_of(key_of(k)) == 2 + all.tenant_of(key_of(k)));
}

TEST_CASE("copies are paced") {
  auto options = two_copies();
  options.bytes_per_second = 1 << 20;
  options.offer_bytes = 64 << 10;
  storage_nodes cluster(2, options);
  cluster.item_bytes = 64 << 10;
  cluster.place(400, 1);  // 25 MiB in all
  cluster.run(0, 10'000);
  CHECK(cluster.bytes > 4 << 20);
  CHECK(cluster.bytes < (2 * 11 << 20) + (1 << 20));
}

TEST_CASE("a full node is passed over, and where all are full the rest is tried again later") {
  storage_nodes cluster(3, two_copies());
  cluster.place(200, 1);
  cluster.full = {node(1)};
  cluster.run(0, 3000);
  for (const auto& key : cluster.held[node(0)])
    CHECK(cluster.copies_of(key) == 2);

  cluster.full = {node(0), node(1), node(2)};
  cluster.held.clear();
  cluster.place(200, 1);
  cluster.planners.at(node(0)).mend({item(0)});
  cluster.lose(node(2));
  cluster.run(3100, 4000);
  CHECK(cluster.planners.at(node(0)).stats().copies_failed > 0);
  CHECK_FALSE(cluster.planners.at(node(0)).resting());
  cluster.full.clear();
  cluster.run(4100, 7000);
  for (const auto& key : cluster.held[node(0)])
    CHECK(cluster.copies_of(key) == 2);
}

TEST_CASE("with one copy wanted only manifests are asked about") {
  replication planner(replication_options{});
  planner.on_view(node(0), {node(0), node(1)}, {}, at_ms(0));
  REQUIRE(only<list_held>(planner.tick(at_ms(500))).size() == 1);
  auto manifest = item(7);
  manifest.kind = item_kind::manifest;
  const auto asked = only<find_holders>(planner.on_held({item(1), manifest, item(2)}, at_ms(500)));
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].keys == std::vector{key_of(7)});
  const auto offers = only<offer_copies>(
      planner.on_holders(asked[0].call, {{.holders = {node(0)}, .maybe = false}}, at_ms(501)));
  REQUIRE(offers.size() == 1);
  CHECK(offers[0].target == node(1));
}

TEST_CASE("what needs mending does not wait for a pass") {
  replication planner(two_copies());
  planner.on_view(node(0), {node(0), node(1)}, {}, at_ms(0));
  planner.mend({item(3)});
  const auto asked = only<find_holders>(planner.tick(at_ms(1)));
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].keys == std::vector{key_of(3)});
}

TEST_CASE("mending believes the directory only after several rounds") {
  replication planner(two_copies());
  planner.on_view(node(0), {node(0), node(1)}, {}, at_ms(0));
  planner.mend({item(3)});
  const auto early = only<find_holders>(planner.tick(at_ms(1)));
  REQUIRE(early.size() == 1);
  // The rotten copy was not withdrawn yet; then nobody answers.
  CHECK(
      planner.on_holders(early[0].call, {{.holders = {node(0), node(1)}, .maybe = false}}, at_ms(2)).empty());
  const auto later = only<find_holders>(planner.tick(at_ms(2100)));
  REQUIRE(later.size() == 1);
  CHECK(planner.on_holders(later[0].call, {}, at_ms(2101)).empty());
  const auto last = only<find_holders>(planner.tick(at_ms(4200)));
  REQUIRE(last.size() == 1);
  const auto offers = only<offer_copies>(
      planner.on_holders(last[0].call, {{.holders = {node(0)}, .maybe = false}}, at_ms(4201)));
  REQUIRE(offers.size() == 1);
  CHECK(offers[0].target == node(1));
  // Not offered twice at a time, and not asked about forever.
  CHECK(only<find_holders>(planner.tick(at_ms(6300))).empty());
  CHECK(planner.on_offered(offers[0].call, {errc::ok}, at_ms(6301)).size() == 1);
  CHECK(only<find_holders>(planner.tick(at_ms(8400))).empty());
}

TEST_CASE("of several holders one offers") {
  std::size_t offers = 0;
  for (std::uint64_t self = 0; self < 3; ++self) {
    auto options = two_copies();
    options.block_copies = 4;
    replication planner(options);
    planner.on_view(node(self), {node(0), node(1), node(2), node(3)}, {}, at_ms(0));
    planner.mend({item(3)});
    const auto asked = only<find_holders>(planner.tick(at_ms(1)));
    REQUIRE(asked.size() == 1);
    const key_holders three{.holders = {node(0), node(1), node(2)}, .maybe = false};
    offers += only<offer_copies>(planner.on_holders(asked[0].call, {three}, at_ms(2))).size();
  }
  CHECK(offers == 1);
}

}  // namespace weft::machines::test
