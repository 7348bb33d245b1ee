// The fuzz target without a fuzzer: its seeds, and blocks damaged at random under a fixed seed.
#include <doctest/doctest.h>

#include "../block/sample_blocks.hpp"
#include "block_target.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

using namespace weft::block::test;

namespace {

std::vector<std::byte> contents_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

// Values at which bounds go wrong, as much as any.
std::uint64_t awkward_number(random_engine& random) {
  const std::uint64_t power = std::uint64_t{1} << pick(random, 0, 63);
  const std::uint64_t choices[] = {
      0, 1, power, power - 1, ~power, ~std::uint64_t{0}, 64 * (random() % 64), random()};
  return choices[pick(random, 0, 7)];
}

// Most damage goes where the numbers stand: header, tables and the index at the front of a band.
void damage(random_engine& random, std::vector<std::byte>& bytes) {
  const std::size_t end = pick(random, 0, 3) == 0 ? bytes.size() : std::min<std::size_t>(bytes.size(), 512);
  if (end < 8) return;
  const std::size_t width = std::size_t{1} << pick(random, 0, 3);
  const std::size_t offset = random() % (end / width) * width;
  const std::uint64_t value = awkward_number(random);
  std::memcpy(&bytes[offset], &value, width);
}

std::vector<std::byte> damaged(random_engine& random, std::span<const std::byte> block) {
  std::vector<std::byte> bytes(block.begin(), block.end());
  if (pick(random, 0, 7) == 0) bytes.resize(random() % (bytes.size() + 1));
  for (std::uint32_t i = pick(random, 0, 3); i > 0; --i)
    damage(random, bytes);
  return bytes;
}

std::vector<std::byte> some_block(random_engine& random) {
  if (pick(random, 0, 3) != 0) {
    const sample made = random_sample(random);
    return {made.bytes.span().begin(), made.bytes.span().end()};
  }
  const auto payload = random_bytes(random, pick(random, 0, 300));
  aligned_bytes block(weft::block::opaque_size_bytes(payload.size()));
  REQUIRE(weft::block::write_opaque(block.span(), random_identity(random), payload, random()));
  return {block.span().begin(), block.span().end()};
}

}  // namespace

TEST_CASE("seeds of the fuzzer are blocks, and nothing in them surprises a reader") {
  int accepted = 0;
  for (const auto& file : std::filesystem::directory_iterator(WEFT_SOURCE_DIR "/tests/fuzz/seeds/block"))
    accepted += weft::fuzz::read_as_block(contents_of(file.path()));
  CHECK(accepted >= 3);
}

TEST_CASE("blocks damaged at random are read without harm") {
  random_engine random(51);
  int accepted = 0, refused = 0;
  for (int blocks = 0; blocks < 250; ++blocks) {
    const std::vector<std::byte> block = some_block(random);
    REQUIRE(weft::fuzz::read_as_block(block));
    for (int round = 0; round < 80; ++round)
      ++(weft::fuzz::read_as_block(damaged(random, block)) ? accepted : refused);
  }
  CHECK(accepted > 1000);  // damage to rows and identities, which a new checksum makes good
  CHECK(refused > 1000);
}
