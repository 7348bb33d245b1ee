#include "tier_target.hpp"

#include <weft/tier/file_tier.hpp>

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace weft::fuzz {
namespace {

constexpr std::size_t header_bytes = 128;
constexpr std::size_t most_slots = 256;
constexpr id128 tier_id{1, 2};

// So that an input gets past checksum, slot number and tier id, which no fuzzer guesses.
void reseal(tier::sector& bytes, std::uint64_t slot) {
  tier::sector right{};
  tier::store(right, {.empty = true, .slot = slot, .tier = tier_id, .key = {}, .sequence = 1});
  std::copy_n(right.begin(), 8, bytes.begin());
  std::copy_n(right.begin() + 24, 24, bytes.begin() + 24);
  const std::uint64_t checksum = XXH3_64bits(bytes.data() + 16, header_bytes - 16);
  std::memcpy(bytes.data() + 8, &checksum, sizeof checksum);
}

void check(const tier::file_tier& books) {
  if (const auto wrong = books.inconsistency(); !wrong.empty()) throw std::logic_error(wrong);
}

void write_one(tier::file_tier& books) {
  books.enqueue({.key = {77, 77}, .bytes = 10'000});
  tier::evicted_items evicted;
  const auto order = books.start_write({}, evicted);
  check(books);
  if (!order) return;
  const auto header = books.written(order->slot, errc::ok, {});
  if (!header) throw std::logic_error("a written block has no header");
  books.header_written(order->slot, errc::ok, {});
  books.start_sync();
  books.synced(errc::ok);
  check(books);
}

std::size_t recover(std::span<const std::byte> bytes, bool resealed) {
  tier::file_tier books({.capacity_bytes = 1 << 20, .queue_bytes = 1 << 20}, tier_id);
  for (std::uint64_t slot = 0; slot < std::min(most_slots, bytes.size() / header_bytes); ++slot) {
    tier::sector sector{};
    std::ranges::copy(bytes.subspan(slot * header_bytes, header_bytes), sector.begin());
    if (resealed) reseal(sector, slot);
    books.recover(slot, sector);
  }
  books.end_recovery();
  check(books);
  const auto believed = books.stats().recovered;
  write_one(books);
  return believed;
}

}  // namespace

std::size_t read_as_headers(std::span<const std::byte> bytes) {
  recover(bytes, false);
  return recover(bytes, true);
}

}  // namespace weft::fuzz
