// A storage with a file tier on a device in memory, and somebody who remembers what was said about it.
#pragma once

#include <weft/tier/memory_device.hpp>
#include <weft/tier/open.hpp>
#include <weft/tier/tiered_storage.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <set>

namespace weft::tier::test {

using machines::item_kind;
using machines::test::at_ms;
using machines::test::key_of;

struct room_options {
  std::uint64_t memory_bytes = 64 << 10;
  std::uint64_t file_bytes = 256 << 10;
  std::uint64_t queue_bytes = 32 << 10;
};

class tier_room {
 public:
  explicit tier_room(std::uint64_t seed, room_options options = {})
      : device(seed), options_(options), arena_(options.memory_bytes / sector_bytes + 1) {
    start();
  }

  // Deterministic, different for every key.
  static std::vector<std::byte> content(const id128& key) {
    std::mt19937_64 random(key.low);
    std::vector<std::byte> bytes(1 + key.high % 20'000);
    for (std::byte& b : bytes)
      b = static_cast<std::byte>(random());
    return bytes;
  }

  // A new process on the same device.
  void start() {
    posted_.clear();
    tier_.reset();
    slots_.emplace(machines::storage_options{.base_offset = 0,
                                             .capacity_bytes = options_.memory_bytes,
                                             .first_generation = 1,
                                             .lower_tier = true});
    const auto drive = [this] { device.run_one(); };
    const device_faults faults = std::exchange(device.faults, {});
    const auto id = tier_id_of(
        device,
        [] {
          return id128{3, 4};
        },
        drive);
    device.faults = faults;
    REQUIRE(id);
    file_tier books({.capacity_bytes = options_.file_bytes, .queue_bytes = options_.queue_bytes, .depth = 4},
                    *id);
    recover(device, books, drive);
    REQUIRE(books.inconsistency() == "");
    said_.clear();
    std::uint64_t cursor = 0;
    for (const auto& item : books.held(cursor, ~std::size_t{0}))
      said_.insert(item.key);
    tier_.emplace(*slots_, bytes(), device, std::move(books), hooks());
  }

  // As a writer does it: reserve, bring the bytes, commit. False where there is no room.
  // `bands`: it comes in so many, which end at equal distances.
  bool put(const id128& key, std::uint64_t bands = 1) {
    const auto data = content(key);
    const auto place = slots_->reserve({.key = key, .kind = item_kind::block, .bytes = data.size()}, now);
    for (const auto& item : place.evicted)
      said_.erase(item.key);
    carry_out(place.trimmed);
    if (place.outcome != machines::reserve_outcome::granted)
      return place.outcome == machines::reserve_outcome::already_have;
    std::ranges::copy(data, bytes().begin() + static_cast<std::ptrdiff_t>(place.offset));
    bands_ = bands;
    std::vector<std::uint64_t> ends;
    for (std::uint64_t band = 1; bands > 1 && band <= bands; ++band)
      ends.push_back(data.size() * band / bands);
    REQUIRE(slots_->commit(place.generation, now, ends) == machines::commit_outcome::committed);
    said_.insert(key);
    tier_->committed(key);
    return true;
  }

  // As a reader does it: bring it back if need be, then look. What is found must be right.
  // `front_bytes`: so much of it will do; 0: all.
  bool get(const id128& key, std::uint64_t front_bytes = 0) {
    bool found = false;
    bool done = false;
    tier_->promote(std::vector{key}, std::vector{front_bytes}, [&] {
      done = true;
      found = check(key);
    });
    while (!done && step()) {
    }
    REQUIRE(done);
    return found;
  }

  void drop(const id128& key) {
    slots_->drop(std::vector{key});
    tier_->drop(std::vector{key});
    said_.erase(key);
  }

  bool step() {
    if (!posted_.empty()) {
      const auto next = std::move(posted_.front());
      posted_.pop_front();
      next();
      return true;
    }
    return device.run_one();
  }
  void settle() {
    while (step()) {
    }
  }

  void check_books() const {
    REQUIRE(slots_->inconsistency() == "");
    REQUIRE(tier_->books().inconsistency() == "");
  }

  // At rest: what was announced is held, and what is held was announced.
  void check_announced() const {
    for (const id128& key : said_)
      REQUIRE((slots_->holds(key) || tier_->books().holds(key)));
    for (const id128& key : on_file())
      REQUIRE(said_.contains(key));
  }

  std::set<id128> on_file() const {
    std::set<id128> keys;
    std::uint64_t cursor = 0;
    for (const auto& item : tier_->books().held(cursor, ~std::size_t{0}))
      keys.insert(item.key);
    return keys;
  }

  machines::storage& slots() { return *slots_; }
  tiered_storage& tier() { return *tier_; }
  bool said(const id128& key) const { return said_.contains(key); }

  memory_device device;
  time_point now = at_ms(0);

 private:
  struct alignas(sector_bytes) page {
    sector bytes;
  };

  std::span<std::byte> bytes() { return {arena_.front().bytes.data(), arena_.size() * sector_bytes}; }

  static bool is_front(std::span<const std::byte> data, const id128& key) {
    const auto whole = content(key);
    return data.size() <= whole.size() && std::ranges::equal(data, std::span(whole).first(data.size()));
  }

  void carry_out(const std::vector<machines::trimmed_block>& blocks) {
    for (const auto& block : blocks)
      std::memmove(bytes().data() + block.offset, bytes().data() + block.from, block.bytes);
  }

  bool check(const id128& key) {
    const auto slot = slots_->find(key);
    if (!slot) return false;
    REQUIRE(is_front(bytes().subspan(slot->offset, slot->bytes), key));
    return true;
  }

  tiered_hooks hooks() {
    return {.clock = [this] { return now; },
            .post = [this](std::function<void()> f) { posted_.push_back(std::move(f)); },
            .admit = [](std::span<std::byte> data, const id128& key,
                        std::uint64_t) { return is_front(data, key) ? errc::ok : errc::corrupt; },
            .prove = [](std::span<const std::byte> data,
                        const id128& key) { return is_front(data, key) ? errc::ok : errc::corrupt; },
            .band_ends =
                [this](std::span<const std::byte> data) {
                  std::vector<std::uint64_t> ends;
                  for (std::uint64_t band = 1; bands_ > 1 && band <= bands_; ++band)
                    ends.push_back(data.size() * band / bands_);
                  return ends;
                },
            .gone =
                [this](const std::vector<id128>& keys) {
                  for (const id128& key : keys)
                    said_.erase(key);
                },
            .trimmed = [this](const std::vector<machines::trimmed_block>& blocks) { carry_out(blocks); },
            .back =
                [this](const std::vector<machines::announced>& items) {
                  for (const auto& item : items)
                    said_.insert(item.key);
                }};
  }

  room_options options_;
  std::vector<page> arena_;
  std::deque<std::function<void()>> posted_;
  std::optional<machines::storage> slots_;
  std::optional<tiered_storage> tier_;
  std::set<id128> said_;
  std::uint64_t bands_ = 1;  // of what was put last
};

}  // namespace weft::tier::test
