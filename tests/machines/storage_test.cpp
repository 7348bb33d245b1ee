#include <weft/machines/storage.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

namespace weft::machines::test {
namespace {

constexpr std::uint64_t kib = 1024;
constexpr duration second = std::chrono::seconds(1);

storage_options room_for(std::uint64_t bytes) {
  return {.base_offset = 64 * kib, .capacity_bytes = bytes, .reservation_timeout = 10 * second};
}

reserve_request block(std::uint64_t key, std::uint64_t bytes = 4 * kib, std::uint32_t tenant = 0) {
  return {.key = key_of(key), .kind = item_kind::block, .bytes = bytes, .tenant = tenant};
}

std::vector<id128> keys(std::initializer_list<std::uint64_t> numbers) {
  std::vector<id128> all;
  for (const std::uint64_t n : numbers)
    all.push_back(key_of(n));
  return all;
}

void put(storage& s, const reserve_request& request, time_point now = at_ms(0)) {
  const reservation r = s.reserve(request, now);
  REQUIRE(r.outcome == reserve_outcome::granted);
  REQUIRE(s.commit(r.generation, now) == commit_outcome::committed);
}

}  // namespace

TEST_CASE("what is committed can be leased where it was reserved") {
  storage s(room_for(64 * kib));
  const reservation r = s.reserve(block(1, 5000), at_ms(0));
  REQUIRE(r.outcome == reserve_outcome::granted);
  CHECK(r.offset >= 64 * kib);
  CHECK(r.offset % 4096 == 0);
  CHECK_FALSE(s.holds(key_of(1)));
  CHECK(s.lease(keys({1}), second, at_ms(0)).id == lease_id{});

  CHECK(s.commit(r.generation, at_ms(1)) == commit_outcome::committed);
  CHECK(s.commit(r.generation, at_ms(1)) == commit_outcome::unknown);
  const lease_grant grant = s.lease(keys({1, 2}), second, at_ms(1));
  CHECK(grant.id != lease_id{});
  REQUIRE(grant.slots.size() == 2);
  CHECK(grant.slots[0].outcome == errc::ok);
  CHECK(grant.slots[0].offset == r.offset);
  CHECK(grant.slots[0].bytes == 5000);
  CHECK(grant.slots[0].generation == r.generation);
  CHECK(grant.slots[1].outcome == errc::not_found);
  CHECK(s.release(grant.id));
  CHECK_FALSE(s.release(grant.id));
  CHECK(s.inconsistency() == "");
}

TEST_CASE("what is held needs no second transfer; of two writers the first commit wins") {
  storage s(room_for(64 * kib));
  const reservation a = s.reserve(block(1), at_ms(0));
  const reservation b = s.reserve(block(1), at_ms(0));
  REQUIRE(b.outcome == reserve_outcome::granted);
  CHECK(a.generation != b.generation);
  CHECK(s.commit(b.generation, at_ms(0)) == commit_outcome::committed);
  CHECK(s.commit(a.generation, at_ms(0)) == commit_outcome::already_have);
  CHECK(s.reserve(block(1), at_ms(0)).outcome == reserve_outcome::already_have);
  CHECK(s.stats().used_bytes == 4 * kib);
  CHECK(s.inconsistency() == "");
}

TEST_CASE("the least recently used gives way, and is named") {
  storage s(room_for(12 * kib));
  for (const std::uint64_t n : {1, 2, 3})
    put(s, block(n));
  s.release(s.lease(keys({1}), second, at_ms(0)).id);  // a use
  const reservation r = s.reserve(block(4), at_ms(0));
  CHECK(r.outcome == reserve_outcome::granted);
  CHECK(r.evicted == std::vector{announced{key_of(2), item_kind::block}});
  CHECK(s.holds(key_of(1)));
  CHECK_FALSE(s.holds(key_of(2)));
}

TEST_CASE("a read without a lease counts as a use") {
  storage s(room_for(12 * kib));
  for (const std::uint64_t n : {1, 2, 3})
    put(s, block(n));
  s.touch(keys({1, 9}));
  CHECK(s.stats().hits == 1);
  CHECK(s.stats().leases == 0);
  CHECK(s.reserve(block(4), at_ms(0)).evicted == std::vector{announced{key_of(2), item_kind::block}});
  CHECK(s.inconsistency() == "");
}

TEST_CASE("leased, pinned and reserved bytes do not give way") {
  storage s(room_for(12 * kib));
  put(s, block(1));
  put(s, block(2));
  const lease_grant grant = s.lease(keys({1}), second, at_ms(0));
  CHECK(s.pin(key_of(2)));
  const reservation pending = s.reserve(block(3), at_ms(0));
  REQUIRE(pending.outcome == reserve_outcome::granted);
  CHECK(s.reserve(block(4), at_ms(0)).outcome == reserve_outcome::out_of_space);

  SUBCASE("until the lease is released") {
    s.release(grant.id);
  }
  SUBCASE("until the lease runs out") {
    s.tick(at_ms(1000));
  }
  SUBCASE("until it is unpinned") {
    CHECK(s.unpin(key_of(2)));
  }
  SUBCASE("until the reservation is given up") {
    CHECK(s.abort(pending.generation));
  }
  CHECK(s.reserve(block(4), at_ms(1000)).outcome == reserve_outcome::granted);
  CHECK(s.inconsistency() == "");
}

TEST_CASE("a reservation that is never committed expires") {
  storage s(room_for(4 * kib));
  const reservation r = s.reserve(block(1), at_ms(0));
  CHECK(s.next_deadline() == at_ms(10'000));
  CHECK(s.reserve(block(2), at_ms(9'999)).outcome == reserve_outcome::out_of_space);
  CHECK(s.is_reserved(r.generation));
  const reservation next = s.reserve(block(2), at_ms(10'000));
  CHECK(next.outcome == reserve_outcome::granted);
  CHECK(next.generation != r.generation);
  CHECK(next.offset == r.offset);
  CHECK_FALSE(s.is_reserved(r.generation));
  CHECK(s.commit(r.generation, at_ms(10'001)) == commit_outcome::unknown);
  CHECK(s.stats().expired_reservations == 1);
}

TEST_CASE("a dropped block is gone for new readers and stays for those who lease it") {
  storage s(room_for(4 * kib));
  put(s, block(1));
  s.pin(key_of(1));
  const lease_grant grant = s.lease(keys({1}), second, at_ms(0));
  CHECK(s.drop(keys({1, 2})) == std::vector{announced{key_of(1), item_kind::block}});
  CHECK(s.drop(keys({1})).empty());
  CHECK_FALSE(s.holds(key_of(1)));
  CHECK(s.reserve(block(2), at_ms(0)).outcome == reserve_outcome::out_of_space);
  s.release(grant.id);
  CHECK(s.reserve(block(2), at_ms(0)).outcome == reserve_outcome::granted);
  CHECK(s.stats().pinned_items == 0);
  CHECK(s.inconsistency() == "");
}

TEST_CASE("a key that is dropped under a lease can be written again elsewhere") {
  storage s(room_for(16 * kib));
  put(s, block(1));
  const lease_grant old = s.lease(keys({1}), second, at_ms(0));
  s.drop(keys({1}));
  put(s, block(1));
  const lease_grant fresh = s.lease(keys({1}), second, at_ms(0));
  CHECK(fresh.slots[0].generation != old.slots[0].generation);
  CHECK(fresh.slots[0].offset != old.slots[0].offset);
  s.release(old.id);
  CHECK(s.holds(key_of(1)));
  CHECK(s.inconsistency() == "");
}

TEST_CASE("leases are no longer than allowed") {
  storage s(room_for(16 * kib));
  put(s, block(1));
  CHECK(s.lease(keys({1}), 3600 * second, at_ms(0)).until == at_ms(30'000));
  CHECK(s.next_deadline() == at_ms(30'000));
}

TEST_CASE("pins count") {
  storage s(room_for(16 * kib));
  put(s, block(1));
  CHECK(s.pin(key_of(1)));
  CHECK(s.pin(key_of(1)));
  CHECK(s.unpin(key_of(1)));
  CHECK(s.stats().pinned_items == 1);
  CHECK(s.unpin(key_of(1)));
  CHECK_FALSE(s.unpin(key_of(1)));
  CHECK_FALSE(s.pin(key_of(2)));
}

TEST_CASE("a tenant stays within its quota") {
  storage s(room_for(64 * kib));
  s.set_quota(7, 8 * kib);
  put(s, block(1, 4 * kib, 7));
  put(s, block(2, 100, 7));
  CHECK(s.tenant_bytes(7) == 8 * kib);
  CHECK(s.reserve(block(3, 1, 7), at_ms(0)).outcome == reserve_outcome::over_quota);
  put(s, block(3, 4 * kib, 8));
  s.drop(keys({1}));
  put(s, block(4, 4 * kib, 7));
  s.set_quota(7, std::nullopt);
  put(s, block(5, 4 * kib, 7));
  CHECK(s.inconsistency() == "");
}

TEST_CASE("a copy after a loss is refused for no quota, and counts as its tenant's") {
  storage s(room_for(64 * kib));
  s.set_quota(7, 4 * kib);
  put(s, block(1, 4 * kib, 7));
  auto copy = block(2, 4 * kib, 7);
  copy.may_evict = false;
  put(s, copy);
  CHECK(s.tenant_bytes(7) == 8 * kib);
  CHECK(s.find(key_of(2))->tenant == 7);
  CHECK(s.reserve(block(3, 1, 7), at_ms(0)).outcome == reserve_outcome::over_quota);
  CHECK(s.inconsistency() == "");
}

TEST_CASE("requests without sense are refused") {
  storage s(room_for(16 * kib));
  CHECK(s.reserve({.key = {}, .bytes = 1}, at_ms(0)).outcome == reserve_outcome::refused);
  CHECK(s.reserve(block(1, 0), at_ms(0)).outcome == reserve_outcome::refused);
  CHECK(s.reserve(block(1, 17 * kib), at_ms(0)).outcome == reserve_outcome::refused);
  CHECK_FALSE(s.holds({}));
  CHECK(s.lease(std::vector{id128{}}, second, at_ms(0)).id == lease_id{});
}

TEST_CASE("a request that cannot be met evicts nothing") {
  storage s(room_for(12 * kib));
  for (const std::uint64_t n : {1, 2, 3})
    put(s, block(n));
  s.pin(key_of(2));
  const reservation r = s.reserve(block(4, 12 * kib), at_ms(0));
  CHECK(r.outcome == reserve_outcome::out_of_space);
  CHECK(r.evicted.empty());
}

TEST_CASE("a large block finds room among small ones without clearing the arena") {
  constexpr std::uint64_t small = 1000;
  storage s(room_for(small * 4 * kib));
  for (std::uint64_t n = 0; n < small; ++n)
    put(s, block(n));
  for (std::uint64_t n = 0; n < small; ++n) {  // uses in an order far from that of the places
    s.release(s.lease(keys({n * 389 % small}), second, at_ms(0)).id);
  }
  const reservation r = s.reserve(block(5000, 32 * 4 * kib), at_ms(0));
  CHECK(r.outcome == reserve_outcome::granted);
  CHECK(r.evicted.size() <= 3 * 32);
  CHECK(s.inconsistency() == "");
}

TEST_CASE("what is held is listed in pages") {
  storage s(room_for(64 * kib));
  for (const std::uint64_t n : {1, 2, 3, 4, 5})
    put(s, block(n));
  s.drop(keys({2}));
  const reservation pending = s.reserve(block(9), at_ms(0));
  REQUIRE(pending.outcome == reserve_outcome::granted);
  std::uint64_t cursor = 0;
  std::vector<id128> seen;
  for (auto page = s.held(cursor, 3); !page.empty(); page = s.held(cursor, 3)) {
    for (const announced& a : page)
      seen.push_back(a.key);
  }
  CHECK(seen == keys({1, 3, 4, 5}));
}

TEST_CASE("above the high watermark room is made down to the low one, and not again in between") {
  storage_options options = room_for(80 * kib);
  options.high_watermark_bytes = 60 * kib;
  options.low_watermark_bytes = 40 * kib;
  storage s(options);
  for (std::uint64_t n = 1; n <= 15; ++n)
    put(s, block(n));
  CHECK(s.relieve(100).evicted.empty());  // at the watermark, not above
  put(s, block(16));
  CHECK(s.relieve(2).evicted.size() == 2);
  CHECK(s.stats().used_bytes == 56 * kib);
  const auto evicted = s.relieve(100).evicted;  // goes on below the high one
  CHECK(evicted.size() == 4);
  CHECK(evicted.front() == announced{key_of(3), item_kind::block});
  CHECK(s.stats().used_bytes == 40 * kib);
  for (std::uint64_t n = 20; n < 25; ++n)
    put(s, block(n));
  CHECK(s.relieve(100).evicted.empty());
  CHECK(s.stats().relief_rounds == 1);
  CHECK(s.inconsistency() == "");
}

TEST_CASE("relief ends when what is left may not go, and begins again when it may") {
  storage_options options = room_for(40 * kib);
  options.high_watermark_bytes = 20 * kib;
  options.low_watermark_bytes = 8 * kib;
  storage s(options);
  for (std::uint64_t n = 1; n <= 6; ++n) {
    put(s, block(n));
    s.pin(key_of(n));
  }
  CHECK(s.relieve(100).evicted.empty());
  for (std::uint64_t n = 1; n <= 6; ++n)
    s.unpin(key_of(n));
  CHECK(s.relieve(100).evicted.size() == 4);
}

TEST_CASE("what a lower tier has goes first, and is not named as lost") {
  storage_options options = room_for(16 * kib);
  options.lower_tier = true;
  storage s(options);
  for (std::uint64_t n = 1; n <= 4; ++n)
    put(s, block(n));
  s.set_backed(key_of(3), true);
  const reservation first = s.reserve(block(5), at_ms(0));
  CHECK(first.outcome == reserve_outcome::granted);
  CHECK(first.evicted.empty());
  CHECK_FALSE(s.holds(key_of(3)));
  CHECK(s.stats().demotions == 1);
  const reservation next = s.reserve(block(6), at_ms(0));
  CHECK(next.evicted == std::vector{announced{key_of(1), item_kind::block}});
  s.set_backed(key_of(2), true);
  s.set_backed(key_of(2), false);
  CHECK(s.reserve(block(7), at_ms(0)).evicted == std::vector{announced{key_of(2), item_kind::block}});
  CHECK(s.inconsistency() == "");
}

TEST_CASE("what the node itself works on stays in place, dropped or not, until it lets go") {
  storage s(room_for(8 * kib));
  put(s, block(1));
  const auto held = s.hold(key_of(1));
  REQUIRE(held);
  CHECK(s.hold(key_of(1)));
  CHECK_FALSE(s.hold(key_of(2)));
  CHECK(s.reserve(block(2, 8 * kib), at_ms(0)).outcome == reserve_outcome::out_of_space);
  s.drop(keys({1}));
  CHECK(s.stats().used_bytes == 4 * kib);
  s.let_go(held->generation);
  CHECK(s.stats().used_bytes == 4 * kib);
  s.let_go(held->generation);
  s.let_go(held->generation);  // once too often: ignored
  CHECK(s.stats().used_bytes == 0);
  CHECK(s.inconsistency() == "");
}

}  // namespace weft::machines::test
