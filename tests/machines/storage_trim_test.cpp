// Low bands of cold blocks go before any block does, and what is left of a block stays what it was.
#include <weft/machines/storage.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <random>
#include <set>

namespace weft::machines::test {
namespace {

constexpr std::uint64_t unit = 4096;

// An arena of bytes beside the books, in which every block repeats a byte of its own.
class trimmed_arena {
 public:
  trimmed_arena(std::uint64_t units, bool lower_tier, std::uint64_t high_units = 0)
      : storage_({.base_offset = 0,
                  .capacity_bytes = units * unit,
                  .high_watermark_bytes = high_units * unit,
                  .low_watermark_bytes = high_units * unit / 2,
                  .lower_tier = lower_tier}),
        bytes_(units * unit) {}

  storage& books() { return storage_; }

  // Bands that end after so many bytes. False where there was no room.
  bool put(std::uint64_t key, const std::vector<std::uint64_t>& ends, std::uint32_t tenant = 0) {
    const auto place = storage_.reserve({.key = key_of(key), .bytes = ends.back(), .tenant = tenant}, now_);
    carry_out(place.trimmed);
    evicted = place.evicted;
    if (place.outcome != reserve_outcome::granted) return false;
    REQUIRE(generations_.insert(place.generation).second);
    std::fill_n(bytes_.begin() + static_cast<std::ptrdiff_t>(place.offset), ends.back(), byte_of(key));
    REQUIRE(storage_.commit(place.generation, now_,
                            ends.size() > 1 ? std::span(ends) : std::span<const std::uint64_t>{}) ==
            commit_outcome::committed);
    return true;
  }

  relief relieve() {
    auto done = storage_.relieve(100);
    carry_out(done.trimmed);
    return done;
  }

  std::uint64_t generation(std::uint64_t key) const { return storage_.find(key_of(key)).value().generation; }

  // What is held of it is its own.
  bool is_intact(std::uint64_t key) const {
    const auto slot = storage_.find(key_of(key));
    if (!slot) return true;
    const auto first = bytes_.begin() + static_cast<std::ptrdiff_t>(slot->offset);
    return std::all_of(first, first + static_cast<std::ptrdiff_t>(slot->bytes),
                       [&](char byte) { return byte == byte_of(key); });
  }

  std::uint64_t held_bytes(std::uint64_t key) const {
    const auto slot = storage_.find(key_of(key));
    return slot ? slot->bytes : 0;
  }

  std::vector<announced> evicted;  // by the last put

 private:
  void carry_out(const std::vector<trimmed_block>& trimmed) {
    for (const auto& t : trimmed) {
      std::memmove(bytes_.data() + t.offset, bytes_.data() + t.from, t.bytes);
      REQUIRE(generations_.insert(t.generation).second);  // nobody has known it before
    }
  }

  static char byte_of(std::uint64_t key) { return static_cast<char>(key % 251 + 1); }

  time_point now_ = at_ms(0);
  storage storage_;
  std::vector<char> bytes_;
  std::set<std::uint64_t> generations_;  // of all places so far
};

const std::vector<std::uint64_t> three_bands{unit, 2 * unit, 4 * unit};

}  // namespace

TEST_CASE("the coldest block loses its last bands first, and no block goes while one has bands to lose") {
  trimmed_arena arena(12, false);
  for (std::uint64_t key = 1; key <= 3; ++key)
    REQUIRE(arena.put(key, three_bands));
  REQUIRE(arena.put(4, {unit}));  // needs one unit: the last band of block 1 has two
  CHECK(arena.evicted.empty());
  CHECK(arena.held_bytes(1) == 2 * unit);
  CHECK(arena.held_bytes(2) == 4 * unit);
  CHECK(arena.books().stats().trims == 1);
  CHECK(arena.books().stats().trimmed_bytes == 2 * unit);
  CHECK(arena.books().stats().banded_items == 3);
  CHECK(arena.books().stats().bands_held == 8);

  // A hole as large as a block, out of the tails of several.
  REQUIRE(arena.put(5, three_bands));
  CHECK(arena.evicted.empty());
  for (std::uint64_t key = 1; key <= 5; ++key) {
    CHECK(arena.held_bytes(key) > 0);
    CHECK(arena.is_intact(key));
  }
  CHECK(arena.books().inconsistency() == "");
}

TEST_CASE("what is leased or pinned keeps its bands, what a lower tier has loses them first") {
  trimmed_arena arena(12, true);
  for (std::uint64_t key = 1; key <= 3; ++key)
    REQUIRE(arena.put(key, three_bands));
  const std::array leased{key_of(1)};
  REQUIRE(arena.books().lease(leased, std::chrono::seconds(5), at_ms(0)).slots[0].outcome == errc::ok);
  REQUIRE(arena.books().pin(key_of(2)));
  REQUIRE(arena.put(4, {unit}));
  CHECK(arena.held_bytes(1) == 4 * unit);
  CHECK(arena.held_bytes(2) == 4 * unit);
  CHECK(arena.held_bytes(3) == 2 * unit);

  CHECK(arena.books().lost_bands(key_of(3)));
  CHECK(!arena.books().lost_bands(key_of(1)));

  arena.books().set_backed(key_of(3), true);
  REQUIRE(arena.put(5, three_bands));  // 3 loses one more band, then the rest, which is not enough
  CHECK(arena.held_bytes(3) == 0);
  CHECK(arena.books().stats().trims == 2);
  CHECK(arena.books().stats().demotions == 1);
  CHECK(arena.evicted == std::vector{announced{key_of(4), item_kind::block}});
  CHECK(arena.books().inconsistency() == "");
}

TEST_CASE("with a lower tier only what it has loses bands, as long as there is any") {
  trimmed_arena arena(12, true);
  for (std::uint64_t key = 1; key <= 3; ++key)
    REQUIRE(arena.put(key, three_bands));
  arena.books().set_backed(key_of(2), true);
  arena.books().set_backed(key_of(3), true);
  REQUIRE(arena.put(4, three_bands));
  CHECK(arena.evicted.empty());
  CHECK(arena.held_bytes(1) == 4 * unit);
  CHECK(arena.held_bytes(2) == unit);
  CHECK(arena.held_bytes(3) > 0);
  for (std::uint64_t key = 1; key <= 4; ++key)
    CHECK(arena.is_intact(key));
  CHECK(arena.books().stats().demotions == 0);
  CHECK(arena.books().inconsistency() == "");
}

TEST_CASE("relief trims before it evicts") {
  trimmed_arena arena(16, false, 8);
  for (std::uint64_t key = 1; key <= 4; ++key)
    REQUIRE(arena.put(key, {unit, 3 * unit}));
  const auto before = arena.generation(1);
  const auto done = arena.relieve();
  CHECK(done.evicted.empty());
  REQUIRE(done.trimmed.size() == 4);
  for (const auto& t : done.trimmed)
    CHECK(t.from == t.offset);  // there is no need to move anything
  CHECK(arena.generation(1) != before);
  CHECK(arena.books().stats().used_bytes == 4 * unit);
  for (std::uint64_t key = 1; key <= 4; ++key)
    CHECK(arena.is_intact(key));
  CHECK(arena.books().inconsistency() == "");
}

TEST_CASE("what lost bands can be had whole again, in the place of what is left of it") {
  trimmed_arena arena(14, false);
  for (std::uint64_t key = 1; key <= 3; ++key)
    REQUIRE(arena.put(key, three_bands));
  REQUIRE(arena.put(4, {3 * unit}));
  REQUIRE(arena.held_bytes(1) < 4 * unit);
  REQUIRE(arena.books().pin(key_of(1)));
  const std::array wanted{key_of(1)};
  const auto reading = arena.books().lease(wanted, std::chrono::seconds(5), at_ms(0));
  const auto left = reading.slots[0];
  CHECK(arena.books().reserve({.key = key_of(1), .bytes = left.bytes}, at_ms(0)).outcome ==
        reserve_outcome::already_have);

  arena.books().drop(std::array{key_of(2)});
  REQUIRE(arena.put(1, three_bands));
  CHECK(arena.held_bytes(1) == 4 * unit);
  CHECK(arena.books().find(key_of(1))->pinned);
  CHECK(arena.generation(1) != left.generation);
  CHECK(arena.books().find(key_of(1))->offset != left.offset);  // a reader has that one still
  CHECK(arena.books().inconsistency() == "");
  CHECK(arena.books().release(reading.id));
  CHECK(arena.books().stats().used_bytes == (4 + 4 + 3) * unit);
  CHECK(arena.books().inconsistency() == "");
  CHECK(!arena.put(1, three_bands));
}

TEST_CASE("what replaces a block takes its place at once, and readers under way keep the former one") {
  trimmed_arena arena(14, false);
  REQUIRE(arena.put(1, {2 * unit}));
  REQUIRE(arena.books().pin(key_of(1)));
  const std::array wanted{key_of(1)};
  const auto reading = arena.books().lease(wanted, std::chrono::seconds(5), at_ms(0));
  const auto before = reading.slots[0];
  const auto place = arena.books().reserve({.key = key_of(1), .bytes = unit, .replace = true}, at_ms(0));
  REQUIRE(place.outcome == reserve_outcome::granted);
  CHECK(arena.generation(1) == before.generation);  // until it is committed
  REQUIRE(arena.books().commit(place.generation, at_ms(0)) == commit_outcome::committed);
  CHECK(arena.generation(1) == place.generation);
  CHECK(arena.held_bytes(1) == unit);
  CHECK(arena.books().find(key_of(1))->pinned);
  CHECK(arena.books().stats().used_bytes == 3 * unit);
  CHECK(arena.books().inconsistency() == "");
  CHECK(arena.books().release(reading.id));
  CHECK(arena.books().stats().used_bytes == unit);
  CHECK(arena.books().stats().committed_items == 1);
  CHECK(arena.books().inconsistency() == "");
}

TEST_CASE("any sequence of puts, leases and pins keeps what is held intact and trims before it drops") {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    trimmed_arena arena(24 + random() % 40, false);
    auto& books = arena.books();
    std::map<std::uint64_t, std::uint64_t> first_bands;  // units, of everything ever put
    std::map<std::uint64_t, std::vector<std::uint64_t>> band_ends;
    std::vector<lease_id> leases;
    for (int step = 0; step < 400; ++step) {
      const std::uint64_t key = 1 + random() % 40;
      switch (random() % 6) {
        case 0: {
          const std::array wanted{key_of(key)};
          const auto grant = books.lease(wanted, std::chrono::seconds(20), at_ms(0));
          if (static_cast<std::uint64_t>(grant.id) != 0) leases.push_back(grant.id);
          break;
        }
        case 1:
          if (!leases.empty()) {
            books.release(leases.back());
            leases.pop_back();
          }
          break;
        case 2:
          random() % 2 == 0 ? books.pin(key_of(key)) : books.unpin(key_of(key));
          break;
        default: {
          auto& ends = band_ends[key];
          if (!books.holds(key_of(key))) ends.clear();
          for (auto bands = ends.empty() ? 1 + random() % 4 : 0; bands > 0; --bands)
            ends.push_back((ends.empty() ? 0 : ends.back()) + 64 + random() % (2 * unit));
          first_bands[key] = (ends.front() + unit - 1) / unit;
          arena.put(key, ends);
          if (arena.evicted.empty()) break;
          // Something went: then nothing that might have been trimmed had more than its first band.
          std::uint64_t in_use = 0;
          for (const auto& [other, units] : first_bands) {
            const auto slot = books.find(key_of(other));
            if (other == key || !slot || slot->pinned) continue;
            in_use += (slot->bytes + unit - 1) / unit > units ? 1 : 0;
          }
          CHECK(in_use <= leases.size());
        }
      }
      for (std::uint64_t other = 1; other <= 40; ++other)
        REQUIRE(arena.is_intact(other));
      REQUIRE(books.inconsistency() == "");
    }
  }
}

}  // namespace weft::machines::test
