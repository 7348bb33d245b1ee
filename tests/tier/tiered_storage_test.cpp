#include <doctest/doctest.h>

#include "tier_room.hpp"

namespace weft::tier::test {

TEST_CASE("what memory has no room for is on file, and comes back when it is asked for") {
  tier_room room(1);
  for (std::uint64_t n = 0; n < 12; ++n) {
    REQUIRE(room.put(key_of(n)));
    room.settle();
  }
  CHECK_FALSE(room.slots().holds(key_of(0)));
  CHECK(room.tier().needs_promotion(std::vector{key_of(0)}, {}));
  for (std::uint64_t n = 0; n < 12; ++n)
    CHECK(room.get(key_of(n)));
  CHECK(room.slots().stats().demotions > 0);
  room.check_books();
  room.check_announced();
}

TEST_CASE("keys that several wait for are read once, and stay until all have seen them") {
  tier_room room(2);
  for (std::uint64_t n = 0; n < 12; ++n) {
    room.put(key_of(n));
    room.settle();
  }
  const auto reads_before = room.tier().books().stats().read;
  int done = 0;
  for (int reader = 0; reader < 3; ++reader) {
    room.tier().promote(std::vector{key_of(0)}, {}, [&] {
      ++done;
      CHECK(room.slots().holds(key_of(0)));
    });
  }
  CHECK(done == 0);
  room.settle();
  CHECK(done == 3);
  CHECK(room.tier().books().stats().read == reads_before + 1);
  room.tier().promote(std::vector{key_of(0), key_of(999)}, {}, [&] { ++done; });
  CHECK(done == 4);
  room.check_books();
}

TEST_CASE("after kill -9 everything that was on file is found, and nothing else") {
  tier_room room(3);
  for (std::uint64_t n = 0; n < 8; ++n) {
    room.put(key_of(n));
    room.settle();
  }
  room.drop(key_of(3));
  room.settle();
  room.put(key_of(100));  // not written yet
  room.device.kill();
  room.start();
  for (std::uint64_t n = 0; n < 8; ++n)
    CHECK(room.get(key_of(n)) == (n != 3));
  CHECK_FALSE(room.get(key_of(100)));
  CHECK(room.tier().books().stats().corrupt == 0);
  room.check_books();
}

TEST_CASE("rot is found out, counted and withdrawn") {
  tier_room room(4);
  for (std::uint64_t n = 0; n < 12; ++n) {
    room.put(key_of(n));
    room.settle();
  }
  REQUIRE_FALSE(room.slots().holds(key_of(0)));
  for (std::byte& b : room.device.bytes(area::data))
    b ^= std::byte{0x10};
  CHECK_FALSE(room.get(key_of(0)));
  CHECK_FALSE(room.said(key_of(0)));
  CHECK(room.tier().books().stats().corrupt == 1);
  room.settle();
  room.check_books();
}

TEST_CASE("scrubbing finds rot on file where nobody reads, and writes again what memory has") {
  tier_room room(7);
  for (std::uint64_t n = 0; n < 12; ++n) {
    room.put(key_of(n));
    room.settle();
  }
  REQUIRE_FALSE(room.slots().holds(key_of(0)));
  REQUIRE(room.slots().holds(key_of(11)));
  const auto scrub = [&](std::vector<id128> keys) {
    std::optional<std::vector<id128>> lost;
    room.tier().scrub(keys, [&](std::vector<id128> gone) { lost = std::move(gone); });
    room.settle();
    REQUIRE(lost);
    return *lost;
  };
  const auto uses = room.tier().books().stats().read;
  CHECK(scrub({key_of(0), key_of(11), key_of(999)}).empty());
  CHECK(room.tier().books().stats().read == uses);
  CHECK_FALSE(room.slots().holds(key_of(0)));

  for (std::byte& b : room.device.bytes(area::data))
    b ^= std::byte{0x10};
  CHECK(scrub({key_of(0), key_of(11)}) == std::vector{key_of(0)});
  CHECK_FALSE(room.said(key_of(0)));
  CHECK_FALSE(room.get(key_of(0)));
  CHECK(room.tier().books().stats().corrupt == 2);
  CHECK(room.tier().books().holds(key_of(11)));  // from memory
  CHECK(scrub({key_of(11)}).empty());
  room.check_books();
  room.check_announced();
}

TEST_CASE("bands that memory loses are on file: the front is read here, the whole block comes back") {
  tier_room room(8, {.memory_bytes = 256 << 10, .file_bytes = 2 << 20});
  std::uint64_t put = 0;
  while (room.slots().stats().demotions == 0 && put < 200) {
    REQUIRE(room.put(key_of(put++), 3));
    room.settle();
  }
  REQUIRE(put < 200);
  std::uint64_t trimmed = 0;
  for (std::uint64_t n = 0; n < put; ++n) {
    const auto slot = room.slots().find(key_of(n));
    const auto whole = tier_room::content(key_of(n)).size();
    if (!slot || !room.slots().lost_bands(key_of(n))) continue;
    ++trimmed;
    CHECK(room.tier().books().bytes_of(key_of(n)) == whole);
    const std::vector keys{key_of(n)};
    CHECK_FALSE(room.tier().needs_promotion(keys, std::vector{slot->bytes}));
    CHECK(room.tier().needs_promotion(keys, std::vector<std::uint64_t>{slot->bytes + 1}));
    CHECK(room.tier().needs_promotion(keys, {}));
    const auto read = room.tier().books().stats().read;
    CHECK(room.get(key_of(n), slot->bytes));
    CHECK(room.tier().books().stats().read == read);
    REQUIRE(room.get(key_of(n)));
    CHECK(room.tier().books().stats().read == read + 1);
    CHECK(room.slots().find(key_of(n))->bytes == whole);
    CHECK_FALSE(room.slots().lost_bands(key_of(n)));
    room.settle();
    room.check_books();
    break;  // reading it whole takes bands of others
  }
  CHECK(trimmed == 1);
  for (std::uint64_t n = 0; n < put; ++n) {
    REQUIRE(room.get(key_of(n)));
    CHECK(room.slots().find(key_of(n))->bytes == tier_room::content(key_of(n)).size());
  }
  CHECK(room.tier().books().stats().corrupt == 0);
  room.settle();
  room.check_books();
  room.check_announced();
}

TEST_CASE("a block that the device cannot read is found by scrubbing") {
  tier_room room(8);
  for (std::uint64_t n = 0; n < 12; ++n) {
    room.put(key_of(n));
    room.settle();
  }
  room.device.faults.failed_read = 1000;
  std::vector<id128> lost;
  room.tier().scrub(std::vector{key_of(0)}, [&](std::vector<id128> gone) { lost = std::move(gone); });
  room.settle();
  CHECK(lost == std::vector{key_of(0)});
  CHECK(room.tier().books().stats().failed == 1);
  CHECK(room.tier().books().stats().retired_bytes > 0);
  room.check_books();
}

TEST_CASE("blocks that lose bands before they are written are on file as what is left of them") {
  tier_room room(7, {.memory_bytes = 256 << 10, .file_bytes = 1 << 20});
  std::uint64_t put = 0;
  while (room.slots().stats().trims == 0 && put < 100)
    room.put(key_of(put++), 3);
  REQUIRE(room.slots().stats().trims > 0);
  room.settle();
  room.check_books();
  CHECK(room.tier().books().stats().corrupt == 0);
  std::uint64_t there = 0;
  for (std::uint64_t n = 0; n < put; ++n) {
    CHECK(room.get(key_of(n)) == room.said(key_of(n)));
    there += room.said(key_of(n)) ? 1 : 0;
  }
  CHECK(there >= 4);
  CHECK(room.tier().books().stats().corrupt == 0);
  room.check_announced();
}

TEST_CASE("writers wait while more is to be written than the queue should have") {
  tier_room room(5);
  std::uint64_t n = 0;
  while (room.tier().takes_more())
    REQUIRE(room.put(key_of(n++)));
  bool went_on = false;
  room.tier().when_it_takes_more([&] { went_on = true; });
  CHECK_FALSE(went_on);
  room.settle();
  CHECK(went_on);
}

TEST_CASE("a full device keeps nobody waiting, and writing goes on when there is room again") {
  tier_room room(6);
  room.put(key_of(0));
  room.settle();
  room.device.set_data_limit(0);
  room.put(key_of(1));
  room.settle();
  CHECK(room.tier().books().stats().full_stops >= 1);
  CHECK(room.tier().takes_more());
  CHECK(room.get(key_of(0)));
  CHECK_FALSE(room.tier().books().holds(key_of(1)));
  room.device.set_data_limit(memory_device::unlimited);
  room.now = at_ms(60'000);
  room.tier().tick();
  room.settle();
  CHECK(room.tier().books().holds(key_of(1)));
  room.check_books();
}

}  // namespace weft::tier::test
