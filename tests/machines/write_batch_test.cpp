#include <weft/machines/write_batch.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

#include <algorithm>

namespace weft::machines::test {
namespace {

std::vector<write_item> some_items(std::uint64_t count) {
  std::vector<write_item> items;
  for (std::uint64_t n = 0; n < count; ++n)
    items.push_back({key_of(n), 4096});
  return items;
}

write_options on_nodes(std::uint64_t count, std::uint32_t replicas) {
  write_options options;
  options.replicas = replicas;
  for (std::uint64_t n = 0; n < count; ++n)
    options.storage_nodes.push_back(node(n));
  return options;
}

std::vector<errc> all(const put_items& put, errc outcome) {
  return std::vector(put.items.size(), outcome);
}

}  // namespace

TEST_CASE("a key is stored when all its replicas have committed, on different nodes") {
  write_batch batch(some_items(1), on_nodes(4, 2));
  const auto puts = only<put_items>(batch.start(at_ms(0)));
  REQUIRE(puts.size() == 2);
  CHECK(puts[0].node != puts[1].node);
  CHECK(batch.on_put(puts[0].call, all(puts[0], errc::ok), at_ms(1)).empty());
  const auto done = only<write_done>(batch.on_put(puts[1].call, all(puts[1], errc::ok), at_ms(2)));
  REQUIRE(done.size() == 1);
  CHECK(done[0].outcome == write_outcome::stored);
  CHECK(done[0].holders.size() == 2);
  CHECK(batch.finished());
}

TEST_CASE("keys of one node travel together") {
  write_batch batch(some_items(100), on_nodes(3, 1));
  const auto puts = only<put_items>(batch.start(at_ms(0)));
  REQUIRE(puts.size() == 3);
  std::size_t total = 0;
  for (const put_items& put : puts)
    total += put.items.size();
  CHECK(total == 100);
}

TEST_CASE("the next node takes the place of one that") {
  write_batch batch(some_items(1), on_nodes(3, 1));
  const put_items first = only<put_items>(batch.start(at_ms(0))).at(0);
  std::vector<write_action> actions;
  SUBCASE("refuses") {
    actions = batch.on_put(first.call, {errc::out_of_space}, at_ms(1));
  }
  SUBCASE("dies") {
    actions = batch.on_node_down(first.node, at_ms(1));
  }
  SUBCASE("stays silent") {
    actions = batch.tick(at_ms(0) + first.timeout);
  }
  const auto next = only<put_items>(actions);
  REQUIRE(next.size() == 1);
  CHECK(next[0].node != first.node);
}

TEST_CASE("fewer nodes than replicas give fewer copies and say so") {
  write_batch batch(some_items(1), on_nodes(1, 3));
  const auto puts = only<put_items>(batch.start(at_ms(0)));
  REQUIRE(puts.size() == 1);
  const auto done = only<write_done>(batch.on_put(puts[0].call, {errc::ok}, at_ms(1)));
  REQUIRE(done.size() == 1);
  CHECK(done[0].outcome == write_outcome::degraded);
  CHECK(done[0].holders == std::vector{puts[0].node});
  CHECK(done[0].why == errc::unreachable);
}

TEST_CASE("no copy is a failure with the reason") {
  write_batch none(some_items(1), on_nodes(0, 1));
  const auto at_once = only<write_done>(none.start(at_ms(0)));
  REQUIRE(at_once.size() == 1);
  CHECK(at_once[0].outcome == write_outcome::failed);
  CHECK(at_once[0].why == errc::unreachable);

  write_batch full(some_items(1), on_nodes(1, 1));
  const auto put = only<put_items>(full.start(at_ms(0))).at(0);
  const auto done = only<write_done>(full.on_put(put.call, {errc::out_of_space}, at_ms(1)));
  REQUIRE(done.size() == 1);
  CHECK(done[0].outcome == write_outcome::failed);
  CHECK(done[0].why == errc::out_of_space);
}

TEST_CASE("a copy on a node that died before the end does not count") {
  write_batch batch(some_items(1), on_nodes(3, 2));
  const auto puts = only<put_items>(batch.start(at_ms(0)));
  batch.on_put(puts[0].call, {errc::ok}, at_ms(1));
  const auto more = only<put_items>(batch.on_node_down(puts[0].node, at_ms(2)));
  REQUIRE(more.size() == 1);
  batch.on_put(puts[1].call, {errc::ok}, at_ms(3));
  const auto done = only<write_done>(batch.on_put(more[0].call, {errc::ok}, at_ms(4)));
  REQUIRE(done.size() == 1);
  CHECK(done[0].outcome == write_outcome::stored);
  CHECK(std::ranges::find(done[0].holders, puts[0].node) == done[0].holders.end());
}

TEST_CASE("a commit that comes late still counts") {
  write_batch batch(some_items(1), on_nodes(2, 1));
  const put_items first = only<put_items>(batch.start(at_ms(0))).at(0);
  const put_items second = only<put_items>(batch.tick(at_ms(0) + first.timeout)).at(0);
  const auto done = only<write_done>(batch.on_put(first.call, {errc::ok}, at_ms(6'000)));
  REQUIRE(done.size() == 1);
  CHECK(done[0].outcome == write_outcome::stored);
  CHECK_FALSE(batch.finished());
  CHECK(batch.on_put(second.call, {errc::ok}, at_ms(6'001)).empty());
  CHECK(batch.finished());
}

TEST_CASE("at the deadline what was reached is told") {
  write_batch batch(some_items(1), on_nodes(2, 2));
  const auto puts = only<put_items>(batch.start(at_ms(0)));
  batch.on_put(puts[0].call, {errc::ok}, at_ms(1));
  const auto done = only<write_done>(batch.tick(at_ms(10'000)));
  REQUIRE(done.size() == 1);
  CHECK(done[0].outcome == write_outcome::degraded);
  CHECK(done[0].why == errc::deadline_exceeded);
}

}  // namespace weft::machines::test
