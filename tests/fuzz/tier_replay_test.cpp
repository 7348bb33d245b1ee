// The fuzz target without a fuzzer: its seed, and headers damaged at random under a fixed seed.
#include <weft/tier/slot_header.hpp>

#include <doctest/doctest.h>

#include "tier_target.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr std::size_t header_bytes = 128;

std::vector<std::byte> some_headers(std::mt19937_64& random) {
  std::vector<std::byte> bytes;
  const std::uint64_t count = random() % 20;
  for (std::uint64_t slot = 0; slot < count; ++slot) {
    weft::tier::sector sector{};
    weft::tier::store(sector, {.slot = slot,
                               .tier = {1, 2},
                               .key = {1, random() % 16},
                               .sequence = random() % 30 + 1,
                               .place = random() % 256 * 4096,
                               .bytes = random() % 20'000 + 1});
    bytes.insert(bytes.end(), sector.begin(), sector.begin() + header_bytes);
  }
  return bytes;
}

void damage(std::mt19937_64& random, std::vector<std::byte>& bytes) {
  if (bytes.size() < 8) return;
  const std::uint64_t power = std::uint64_t{1} << random() % 64;
  const std::uint64_t awkward[] = {
      0, 1, power, power - 1, ~power, ~std::uint64_t{0}, 4096 * (random() % 300)};
  const std::uint64_t value = awkward[random() % std::size(awkward)];
  std::memcpy(&bytes[random() % (bytes.size() / 8) * 8], &value, 8);
}

}  // namespace

TEST_CASE("the seed of the fuzzer is a header file that a restart believes") {
  std::ifstream in(WEFT_SOURCE_DIR "/tests/fuzz/seeds/tier/three-slots", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  CHECK(weft::fuzz::read_as_headers(std::as_bytes(std::span{text})) == 3);
}

TEST_CASE("headers damaged at random leave the books right") {
  std::mt19937_64 random(5);
  std::size_t believed = 0;
  for (int round = 0; round < 3000; ++round) {
    auto bytes = some_headers(random);
    for (std::uint64_t i = random() % 5; i > 0; --i)
      damage(random, bytes);
    believed += weft::fuzz::read_as_headers(bytes);
  }
  CHECK(believed > 5000);
}
