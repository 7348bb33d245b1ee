#include <weft/machines/directory.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"
#include "seeds.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace weft::machines::test {
namespace {

std::vector<announced> blocks(std::initializer_list<std::uint64_t> numbers) {
  std::vector<announced> items;
  for (const std::uint64_t n : numbers)
    items.push_back({key_of(n), item_kind::block});
  return items;
}

std::vector<node_ref> holders(const directory& d, const id128& key) {
  const located found = d.locate(std::vector{key}, at_ms(0));
  std::vector<node_ref> refs;
  for (const std::uint16_t h : found.holders_of(0))
    refs.push_back(found.nodes[h]);
  std::ranges::sort(refs);
  return refs;
}

}  // namespace

TEST_CASE("a batch is answered with holders by key and the length of the held prefix") {
  directory d;
  REQUIRE(d.announce(node(0), blocks({0, 1, 3})));
  REQUIRE(d.announce(node(1), blocks({1})));
  const std::vector keys{key_of(0), key_of(1), key_of(2), key_of(3)};
  const located found = d.locate(keys, at_ms(0));
  CHECK(found.prefix_keys == 2);
  CHECK(found.complete);
  CHECK(found.holders_of(0).size() == 1);
  CHECK(found.holders_of(1).size() == 2);
  CHECK(found.holders_of(2).empty());
  CHECK(found.nodes[found.holders_of(3)[0]] == node(0));
}

TEST_CASE("a repeated announcement counts once, a withdrawal takes one holder away") {
  directory d;
  REQUIRE(d.announce(node(0), blocks({0, 0})));
  REQUIRE(d.announce(node(0), blocks({0})));
  REQUIRE(d.announce(node(1), blocks({0})));
  CHECK(holders(d, key_of(0)) == std::vector{node(0), node(1)});
  CHECK(d.withdraw(node(0), std::vector{key_of(0), key_of(5)}));
  CHECK(holders(d, key_of(0)) == std::vector{node(1)});
  CHECK(d.withdraw(node(1), std::vector{key_of(0)}));
  CHECK(d.stats().entries == 0);
}

TEST_CASE("what is dead is not located, and its late words are refused") {
  directory d;
  REQUIRE(d.announce(node(0, 3), blocks({0})));
  d.drop(node(0, 3));
  CHECK(holders(d, key_of(0)).empty());
  CHECK(d.announce(node(0, 3), blocks({1})).error().code == errc::stale);
  CHECK(d.announce(node(0, 2), blocks({1})).error().code == errc::stale);
  REQUIRE(d.announce(node(0, 4), blocks({1})));
  d.drop(node(0, 3));  // said again: the later life is not meant
  CHECK(holders(d, key_of(1)) == std::vector{node(0, 4)});
}

TEST_CASE("a later life's first words end the earlier one") {
  directory d;
  REQUIRE(d.announce(node(0, 1), blocks({0, 1})));
  REQUIRE(d.announce(node(0, 2), blocks({1})));
  CHECK(holders(d, key_of(0)).empty());
  CHECK(holders(d, key_of(1)) == std::vector{node(0, 2)});
  CHECK(d.withdraw(node(0, 1), std::vector{key_of(1)}));
  CHECK(holders(d, key_of(1)) == std::vector{node(0, 2)});
  CHECK(d.announce(node(0, 1), blocks({0})).error().code == errc::stale);
}

TEST_CASE("sweeping frees what the dead left, in steps") {
  directory d;
  std::vector<announced> many;
  for (std::uint64_t n = 0; n < 10'000; ++n)
    many.push_back({key_of(n), item_kind::block});
  REQUIRE(d.announce(node(0), many));
  REQUIRE(d.announce(node(1), std::span(many).first(100)));
  d.drop(node(0));
  CHECK(d.stats().entries == 10'000);
  int steps = 1;
  while (d.sweep(500))
    ++steps;
  CHECK(steps > 5);
  CHECK(d.stats().entries == 100);
  CHECK(holders(d, key_of(7)) == std::vector{node(1)});
}

TEST_CASE("more holders than an entry has room for are all known") {
  directory d;
  std::vector<node_ref> all;
  for (std::uint64_t n = 0; n < 40; ++n) {
    all.push_back(node(n));
    REQUIRE(d.announce(node(n), blocks({0})));
  }
  CHECK(holders(d, key_of(0)) == all);
  for (std::uint64_t n = 0; n < 39; ++n)
    CHECK(d.withdraw(node(n), std::vector{key_of(0)}));
  CHECK(holders(d, key_of(0)) == std::vector{node(39)});
}

TEST_CASE("documents are the manifests somebody alive holds, in pages") {
  directory d;
  std::vector<id128> expected;
  for (std::uint64_t n = 0; n < 10; ++n) {
    REQUIRE(d.announce(node(n % 2), std::vector{announced{key_of(n), item_kind::manifest}}));
    if (n % 2 == 0) expected.push_back(key_of(n));
  }
  REQUIRE(d.announce(node(0), blocks({77})));
  d.drop(node(1));
  std::ranges::sort(expected);
  const std::vector<id128> first = d.documents({}, 3);
  const std::vector<id128> rest = d.documents(first.back(), 100);
  CHECK(first == std::vector(expected.begin(), expected.begin() + 3));
  CHECK(rest == std::vector(expected.begin() + 3, expected.end()));
}

TEST_CASE("during a rebuild a miss is a maybe") {
  directory d;
  const std::vector key{key_of(0)};
  d.begin_rebuild(5, std::vector{node(0), node(1)}, at_ms(1000));
  CHECK_FALSE(d.locate(key, at_ms(0)).complete);
  d.announced_all(node(0), 5);
  d.announced_all(node(1), 4);  // with the view before
  CHECK(d.rebuilding(at_ms(0)));
  SUBCASE("until all have announced") {
    d.announced_all(node(1), 5);
    CHECK(d.locate(key, at_ms(0)).complete);
  }
  SUBCASE("until the missing one is dead") {
    d.drop(node(1));
    CHECK(d.locate(key, at_ms(0)).complete);
  }
  SUBCASE("until the time is over") {
    CHECK(d.locate(key, at_ms(1000)).complete);
  }
}

TEST_CASE("a holder that saw the new view first is not waited for") {
  directory d;
  d.announced_all(node(0), 6);
  d.begin_rebuild(6, std::vector{node(0)}, at_ms(1000));
  CHECK_FALSE(d.rebuilding(at_ms(0)));
}

TEST_CASE("keys of other shards are forgotten") {
  view v{.epoch = 1, .members = {member_of(0), member_of(1)}};
  const shard_map shards(v);
  directory d;
  for (std::uint64_t n = 0; n < 1000; ++n) {
    REQUIRE(d.announce(node(2), std::vector{announced{key_of(n), item_kind::manifest}}));
  }
  d.drop_foreign(shards, node(0));
  for (std::uint64_t n = 0; n < 1000; ++n) {
    const bool own = shards.owner_of(key_of(n)) == node(0);
    REQUIRE(holders(d, key_of(n)).empty() != own);
  }
  CHECK(d.stats().manifests == d.stats().entries);
}

TEST_CASE("zero keys are refused and never found") {
  directory d;
  CHECK(d.announce(node(0), std::vector{announced{}}).error().code == errc::invalid_argument);
  CHECK(holders(d, id128{}).empty());
}

TEST_CASE("an entry takes less than 64 bytes at any fill") {
  directory d;
  std::vector<announced> page;
  for (std::uint64_t n = 0; n < 300'000; ++n) {
    page.push_back({key_of(n), item_kind::block});
    if (page.size() < 10'000) continue;
    REQUIRE(d.announce(node(0), page));
    REQUIRE(d.announce(node(1), page));
    page.clear();
    if (n > 50'000) CHECK(d.stats().bytes <= 64 * d.stats().entries);
  }
}

TEST_CASE("a directory knows what a plain map of announcements would know") {
  for_each_seed(200, [](random_source& random) {
    directory d;
    std::map<id128, std::set<node_ref>> model;
    std::map<std::uint64_t, std::uint64_t> life;  // by node number
    const std::uint64_t keys = random.between(5, 300);
    const std::uint64_t nodes = random.between(1, 20);
    const auto forget = [&](const node_ref& dead) {
      for (auto& [key, refs] : model) {
        std::erase_if(refs, [&](const node_ref& r) {
          return r.node == dead.node && r.incarnation <= dead.incarnation;
        });
      }
    };
    for (int i = 0; i < 600; ++i) {
      const std::uint64_t n = random.below(nodes);
      std::uint64_t& incarnation = life.try_emplace(n, 1).first->second;
      const std::uint64_t what = random.below(100);
      std::vector<announced> items;
      std::vector<id128> batch;
      for (std::uint64_t k = random.between(1, 20); k > 0; --k) {
        batch.push_back(key_of(random.below(keys)));
        items.push_back({batch.back(), item_kind::block});
      }
      if (what < 55) {
        REQUIRE(d.announce(node(n, incarnation), items));
        for (const id128& key : batch)
          model[key].insert(node(n, incarnation));
      } else if (what < 85) {
        CHECK(d.withdraw(node(n, incarnation), batch));
        for (const id128& key : batch)
          model[key].erase(node(n, incarnation));
      } else if (what < 92) {
        d.drop(node(n, incarnation));
        forget(node(n, incarnation));
        ++incarnation;
      } else {
        d.sweep(random.below(200));
      }
      if (i % 50 != 0) continue;
      for (std::uint64_t k = 0; k < keys; ++k) {
        const auto expected = model.find(key_of(k));
        const std::vector<node_ref> refs =
            expected == model.end() ? std::vector<node_ref>{}
                                    : std::vector(expected->second.begin(), expected->second.end());
        REQUIRE(holders(d, key_of(k)) == refs);
      }
    }
    while (d.sweep(1000)) {
    }
    const auto held = std::ranges::count_if(model, [](const auto& item) { return !item.second.empty(); });
    REQUIRE(d.stats().entries == static_cast<std::uint64_t>(held));
  });
}

TEST_CASE("a withdrawal that was overtaken by an announcement withdraws nothing") {
  directory d;
  const std::vector<announced> keys{{key_of(1), item_kind::block}};
  const std::vector<id128> gone{key_of(1)};
  REQUIRE(d.announce(node(0), keys, 4));
  CHECK(d.withdraw(node(0), gone, 3).error().code == errc::stale);
  CHECK(d.locate(gone, at_ms(0)).holders_of(0).size() == 1);
  CHECK(d.withdraw(node(0), gone, 5));
  CHECK(d.locate(gone, at_ms(0)).holders_of(0).empty());
}

TEST_CASE("a life that the other side of a split kept is taken back") {
  directory d;
  const std::vector<announced> keys{{key_of(1), item_kind::block}};
  d.drop(node(0, 5));
  CHECK_FALSE(d.announce(node(0, 5), keys));
  d.readmit(node(0, 5));
  CHECK_FALSE(d.announce(node(0, 4), keys));  // an earlier one is not
  CHECK(d.announce(node(0, 5), keys));
}

}  // namespace weft::machines::test
