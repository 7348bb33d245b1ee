#include <weft/tier/slot_header.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

#include <memory>

namespace weft::tier::test {
namespace {

using machines::item_kind;
using machines::test::key_of;

constexpr id128 tier{0x0011223344556677, 0x8899aabbccddeeff};

slot_header sample() {
  return {.empty = false,
          .slot = 5,
          .tier = tier,
          .key = key_of(1),
          .sequence = 77,
          .place = 40960,
          .bytes = 5000,
          .tenant = 3,
          .kind = item_kind::manifest};
}

sector stored(const slot_header& header) {
  sector bytes{};
  store(bytes, header);
  return bytes;
}

}  // namespace

TEST_CASE("a header is read as it was written") {
  CHECK(load_slot_header(stored(sample()), 5, tier).value() == sample());
  const slot_header empty{.empty = true, .slot = 6, .tier = tier, .key = {}, .sequence = 78};
  CHECK(load_slot_header(stored(empty), 6, tier).value() == empty);
}

TEST_CASE("the bytes are those that the format names") {
  const sector bytes = stored(sample());
  const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
  CHECK(at(0) == 'W');
  CHECK(at(7) == 0x1a);
  CHECK(at(16) == 1);
  CHECK(at(20) == 1);
  CHECK(at(24) == 5);
  CHECK(at(33) == 0x11);
  CHECK(at(47) == 0xff);
  CHECK(at(64) == 77);
  CHECK(at(73) == 0xa0);
  CHECK(at(80) == (5000 & 0xff));
  CHECK(at(81) == 5000 >> 8);
  CHECK(at(88) == 3);
  CHECK(at(92) == 1);
}

TEST_CASE("what was never written is not taken for damage") {
  CHECK(load_slot_header(sector{}, 5, tier).error().code == errc::not_found);
  CHECK(load_tier_id(sector{}).error().code == errc::not_found);
}

TEST_CASE("headers of another slot or another tier are found out") {
  CHECK(load_slot_header(stored(sample()), 6, tier).error().code == errc::corrupt);
  CHECK(load_slot_header(stored(sample()), 5, key_of(9)).error().code == errc::corrupt);
}

TEST_CASE("every flipped bit of what is used, and every torn atom, is found out") {
  const sector whole = stored(sample());
  for (std::size_t bit = 0; bit < 128 * 8; ++bit) {
    sector bytes = whole;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    CHECK_FALSE(load_slot_header(bytes, 5, tier));
  }
  CHECK_FALSE(load_slot_header(std::span(whole).first(4095), 5, tier));
}

TEST_CASE("headers that contradict themselves are refused though their checksum is right") {
  const auto refused = [](auto change) {
    slot_header header = sample();
    change(header);
    return !load_slot_header(stored(header), header.slot, tier);
  };
  CHECK(refused([](slot_header& h) { h.key = {}; }));
  CHECK(refused([](slot_header& h) { h.sequence = 0; }));
  CHECK(refused([](slot_header& h) { h.place = 4095; }));
  CHECK(refused([](slot_header& h) { h.bytes = 0; }));
  CHECK(refused([](slot_header& h) { h.bytes = ~std::uint64_t{0}; }));
  CHECK(refused([](slot_header& h) { h.kind = item_kind{3}; }));
  CHECK(refused([](slot_header& h) { h.empty = true; }));
}

TEST_CASE("sector 0 names the tier") {
  sector bytes{};
  store_tier_id(bytes, tier);
  CHECK(load_tier_id(bytes).value() == tier);
  bytes[30] ^= std::byte{1};
  CHECK(load_tier_id(bytes).error().code == errc::corrupt);
  CHECK(load_tier_id(stored(sample())).error().code == errc::corrupt);
}

}  // namespace weft::tier::test
