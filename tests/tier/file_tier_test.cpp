#include <weft/tier/file_tier.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

namespace weft::tier::test {
namespace {

using machines::announced;
using machines::item_kind;
using machines::test::at_ms;
using machines::test::key_of;

constexpr id128 tier_id{1, 2};
constexpr std::uint64_t kib = 1024;

file_tier_options room_for(std::uint64_t bytes) {
  return {.capacity_bytes = bytes, .queue_bytes = 64 * kib, .depth = 4};
}

filed_item block(std::uint64_t n, std::uint64_t bytes = 4 * kib) {
  return {.key = key_of(n), .kind = item_kind::block, .bytes = bytes};
}

std::optional<write_order> next_write(file_tier& books, std::int64_t now = 0) {
  evicted_items evicted;
  return books.start_write(at_ms(now), evicted);
}

// Through all steps; the header it would find again.
slot_header file(file_tier& books, const filed_item& item) {
  REQUIRE(books.enqueue(item) == enqueue_outcome::queued);
  const auto order = next_write(books);
  REQUIRE(order);
  const auto header = books.written(order->slot, errc::ok, at_ms(0));
  REQUIRE(header);
  CHECK(books.header_written(header->slot, errc::ok, at_ms(0)).wants_sync);
  REQUIRE(books.start_sync());
  CHECK(books.synced(errc::ok).on_file.size() == 1);
  return header->content;
}

sector stored(const slot_header& header) {
  sector bytes{};
  store(bytes, header);
  return bytes;
}

}  // namespace

TEST_CASE("a block is on file when its bytes, its header and a sync that began later succeeded") {
  file_tier books(room_for(64 * kib), tier_id);
  CHECK(books.enqueue(block(1, 5000)) == enqueue_outcome::queued);
  CHECK(books.enqueue(block(1, 5000)) == enqueue_outcome::known);
  const auto order = next_write(books);
  REQUIRE(order);
  CHECK(order->key == key_of(1));
  CHECK(order->bytes == 8 * kib);
  CHECK_FALSE(next_write(books));
  CHECK_FALSE(books.start_sync());
  const auto header = books.written(order->slot, errc::ok, at_ms(0));
  REQUIRE(header);
  CHECK(header->content.place == order->offset);
  CHECK(header->content.bytes == 5000);
  CHECK(header->offset == header_offset(order->slot));
  CHECK_FALSE(books.holds(key_of(1)));
  books.header_written(order->slot, errc::ok, at_ms(0));
  CHECK(books.start_sync());
  CHECK_FALSE(books.holds(key_of(1)));
  CHECK_FALSE(books.start_sync());
  CHECK(books.synced(errc::ok).on_file == std::vector{announced{key_of(1), item_kind::block}});
  CHECK(books.holds(key_of(1)));
  CHECK(books.stats().queued_bytes == 0);
  CHECK(books.inconsistency() == "");
}

TEST_CASE("what was ready after a sync began waits for the next one") {
  file_tier books(room_for(64 * kib), tier_id);
  const auto ready = [&](std::uint64_t n) {
    books.enqueue(block(n));
    const auto order = next_write(books);
    books.header_written(books.written(order->slot, errc::ok, at_ms(0))->slot, errc::ok, at_ms(0));
  };
  ready(1);
  REQUIRE(books.start_sync());
  ready(2);
  CHECK(books.synced(errc::ok).on_file.size() == 1);
  CHECK_FALSE(books.holds(key_of(2)));
  REQUIRE(books.start_sync());
  CHECK(books.synced(errc::ok).on_file.size() == 1);
  CHECK(books.holds(key_of(2)));
}

TEST_CASE("no more writes are in flight than the depth; writers are told to wait for a long queue") {
  file_tier books(room_for(512 * kib), tier_id);
  for (std::uint64_t n = 0; n < 16; ++n)
    books.enqueue(block(n));
  CHECK_FALSE(books.takes_more(at_ms(0)));
  std::vector<write_order> flying;
  while (const auto order = next_write(books))
    flying.push_back(*order);
  CHECK(flying.size() == 4);
  books.written(flying[0].slot, errc::ok, at_ms(0));
  CHECK_FALSE(next_write(books));  // its header is still to be written
  books.header_written(flying[0].slot, errc::ok, at_ms(0));
  CHECK(books.takes_more(at_ms(0)));
  CHECK(next_write(books));
  CHECK(books.inconsistency() == "");
}

TEST_CASE("a full tier evicts what was used longest ago, but nothing pinned or being read") {
  file_tier books(room_for(12 * kib), tier_id);
  for (std::uint64_t n = 1; n <= 3; ++n)
    file(books, block(n));
  CHECK(books.set_pinned(key_of(1), true));
  const auto reading = books.begin_read(key_of(2));
  REQUIRE(reading);
  books.enqueue(block(4));
  evicted_items evicted;
  CHECK(books.start_write(at_ms(0), evicted));
  CHECK(evicted.keys == std::vector{key_of(3)});
  REQUIRE(evicted.headers.size() == 1);
  CHECK(evicted.headers[0].content.empty);
  books.header_written(evicted.headers[0].slot, errc::ok, at_ms(0));
  books.enqueue(block(5));
  CHECK_FALSE(books.start_write(at_ms(0), evicted));  // nothing may go
  CHECK(books.stats().failed == 1);
  CHECK(books.end_read(reading->slot, errc::ok).on_file);
  CHECK(books.inconsistency() == "");
}

TEST_CASE("a failed write or sync retires what it covered; its place is not used again") {
  file_tier books(room_for(16 * kib), tier_id);
  books.enqueue(block(1));
  const auto order = next_write(books);
  CHECK_FALSE(books.written(order->slot, errc::io, at_ms(0)));
  CHECK(books.stats().retired_bytes == 4 * kib);

  books.enqueue(block(2));
  const auto second = next_write(books);
  CHECK(second->offset != order->offset);
  books.header_written(books.written(second->slot, errc::ok, at_ms(0))->slot, errc::ok, at_ms(0));
  REQUIRE(books.start_sync());
  CHECK(books.synced(errc::io).lost == std::vector{key_of(2)});
  CHECK_FALSE(books.holds(key_of(2)));
  CHECK(books.stats().retired_bytes == 8 * kib);
  file(books, block(3));
  CHECK(books.holds(key_of(3)));
  CHECK(books.inconsistency() == "");
}

TEST_CASE("a full device stops writes for a while, and reads go on") {
  file_tier books(room_for(64 * kib), tier_id);
  file(books, block(1));
  books.enqueue(block(2));
  const auto order = next_write(books);
  CHECK_FALSE(books.written(order->slot, errc::out_of_space, at_ms(0)));
  CHECK(books.stats().full_stops == 1);
  CHECK_FALSE(next_write(books, 9'999));
  CHECK(books.takes_more(at_ms(0)));
  CHECK(books.begin_read(key_of(1)));
  const auto again = next_write(books, 10'000);
  REQUIRE(again);
  CHECK(again->key == key_of(2));
  CHECK(books.inconsistency() == "");
}

TEST_CASE("a drop empties the header, and the place is used again when its reader is done") {
  file_tier books(room_for(4 * kib), tier_id);
  file(books, block(1));
  const auto reading = books.begin_read(key_of(1));
  std::vector<announced> dropped;
  const auto orders = books.drop(std::vector{key_of(1), key_of(9)}, dropped);
  REQUIRE(orders.size() == 1);
  CHECK(dropped.size() == 1);
  CHECK(orders[0].content.empty);
  CHECK_FALSE(books.holds(key_of(1)));
  books.header_written(orders[0].slot, errc::ok, at_ms(0));
  CHECK(books.stats().used_bytes == 4 * kib);
  CHECK_FALSE(books.end_read(reading->slot, errc::ok).on_file);
  CHECK(books.stats().used_bytes == 0);
  CHECK(books.inconsistency() == "");
}

TEST_CASE("what is dropped while it is written leaves nothing behind") {
  std::vector<announced> dropped;
  {
    file_tier books(room_for(16 * kib), tier_id);  // waiting
    books.enqueue(block(1));
    books.drop(std::vector{key_of(1)}, dropped);
    CHECK_FALSE(next_write(books));
    CHECK(books.inconsistency() == "");
  }
  {
    file_tier books(room_for(16 * kib), tier_id);  // its bytes
    books.enqueue(block(1));
    const auto order = next_write(books);
    CHECK(books.drop(std::vector{key_of(1)}, dropped).empty());
    CHECK(books.enqueue(block(1)) == enqueue_outcome::queued);  // written anew meanwhile
    CHECK(next_write(books));
    CHECK_FALSE(books.written(order->slot, errc::ok, at_ms(0)));
    CHECK(books.knows(key_of(1)));
    CHECK(books.inconsistency() == "");
  }
  {
    file_tier books(room_for(16 * kib), tier_id);  // its header
    books.enqueue(block(1));
    const auto order = next_write(books);
    books.written(order->slot, errc::ok, at_ms(0));
    books.drop(std::vector{key_of(1)}, dropped);
    const auto end = books.header_written(order->slot, errc::ok, at_ms(0));
    CHECK_FALSE(end.wants_sync);
    REQUIRE(end.next);
    CHECK(end.next->content.empty);
    books.header_written(end.next->slot, errc::ok, at_ms(0));
    CHECK(books.stats().used_bytes == 0);
    CHECK(books.inconsistency() == "");
  }
  CHECK(dropped.empty());
}

TEST_CASE("what does not prove itself is dropped, and a restart does not find it again") {
  file_tier books(room_for(16 * kib), tier_id);
  file(books, block(1));
  const auto reading = books.begin_read(key_of(1));
  const auto end = books.end_read(reading->slot, errc::corrupt);
  CHECK_FALSE(end.on_file);
  REQUIRE(end.next);
  CHECK(end.next->content.empty);
  CHECK(books.stats().corrupt == 1);
  CHECK_FALSE(books.begin_read(key_of(1)));
  CHECK(books.inconsistency() == "");
}

TEST_CASE("recovery finds what was committed, in the order of its headers or any other") {
  file_tier before(room_for(64 * kib), tier_id);
  const auto first = file(before, block(1, 5000));
  auto second = block(2);
  second.kind = item_kind::manifest;
  second.tenant = 7;
  const auto other = file(before, second);

  file_tier books(room_for(64 * kib), tier_id);
  books.recover(other.slot, stored(other));
  books.recover(5, sector{});
  books.recover(first.slot, stored(first));
  books.end_recovery();
  CHECK(books.stats().recovered == 2);
  CHECK(books.bytes_of(key_of(1)) == 5000);
  const auto reading = books.begin_read(key_of(2));
  REQUIRE(reading);
  CHECK(reading->offset == other.place);
  CHECK(reading->kind == item_kind::manifest);
  CHECK(reading->tenant == 7);
  CHECK(books.inconsistency() == "");
  CHECK(file(books, block(3)).sequence > other.sequence);
  CHECK(books.inconsistency() == "");
}

TEST_CASE("of headers that contradict each other the later one stands; damaged ones are counted") {
  const auto header = [](std::uint64_t slot, std::uint64_t key, std::uint64_t sequence, std::uint64_t place,
                         std::uint64_t bytes = 4 * kib) {
    return slot_header{.slot = slot,
                       .tier = tier_id,
                       .key = key_of(key),
                       .sequence = sequence,
                       .place = place,
                       .bytes = bytes};
  };
  file_tier books(room_for(64 * kib), tier_id);
  const std::vector headers{
      header(0, 1, 5, 0),                  // same place as the next
      header(1, 2, 9, 0),                  //
      header(2, 3, 3, 8 * kib, 8 * kib),   // its second half is another's
      header(3, 4, 8, 12 * kib),           //
      header(4, 4, 2, 32 * kib),           // an older copy
      header(5, 6, 1, 60 * kib, 8 * kib),  // behind the end
      header(6, 7, 1, 40 * kib, 8 * kib),
  };
  for (const auto& h : headers)
    books.recover(h.slot, stored(h));
  auto torn = stored(header(7, 8, 11, 48 * kib));
  torn[50] ^= std::byte{4};
  books.recover(7, torn);
  books.end_recovery();
  CHECK(books.stats().corrupt == 1);
  CHECK(books.stats().recovered == 3);
  for (const std::uint64_t key : {2, 4, 7})
    CHECK(books.holds(key_of(key)));
  CHECK(books.inconsistency() == "");
}

}  // namespace weft::tier::test
