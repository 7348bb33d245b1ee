#include <doctest/doctest.h>

#include "sample_blocks.hpp"

#include <algorithm>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {
aligned_bytes opaque_block(const identity& id, std::span<const std::byte> payload, std::uint64_t tag) {
  aligned_bytes bytes(opaque_size_bytes(payload.size()));
  REQUIRE(write_opaque(bytes.span(), id, payload, tag));
  return bytes;
}
}  // namespace

TEST_CASE("a payload of any length comes back as it was") {
  random_engine random(11);
  for (const std::size_t length : {0, 1, 63, 64, 65, 1000, 4096}) {
    CAPTURE(length);
    const identity id = random_identity(random);
    const auto payload = random_bytes(random, length);
    const aligned_bytes bytes = opaque_block(id, payload, 77);
    CHECK(bytes.span().size() % part_alignment_bytes == 0);
    const auto block = verify(bytes.span(), id);
    REQUIRE(block);
    CHECK(block->is_opaque());
    CHECK(block->layout_tag() == 77);
    CHECK(block->band_count() == 1);
    CHECK(block->dimensions().layers == 0);
    CHECK(std::ranges::equal(block->payload(), payload));
  }
}

TEST_CASE("every flipped bit of an opaque block is noticed") {
  random_engine random(12);
  const identity id = random_identity(random);
  aligned_bytes bytes = opaque_block(id, random_bytes(random, 100), 5);
  for (std::size_t bit = 0; bit < 8 * bytes.span().size(); ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    CHECK(!verify(bytes.span(), id));
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  CHECK(verify(bytes.span(), id));
}

TEST_CASE("an opaque block without its band has no payload, and a block of rows has none either") {
  random_engine random(13);
  const aligned_bytes bytes = opaque_block(random_identity(random), random_bytes(random, 100), 5);
  const aligned_bytes cut(bytes.span().first(view::parse(bytes.span())->header_bytes()));
  const auto header = view::parse(cut.span());
  REQUIRE(header);
  CHECK(header->payload().empty());
  CHECK_THROWS_AS(header->range_of_layer(0, 0), std::out_of_range);

  const sample s = random_sample(random);
  CHECK(view::parse(s.bytes.span())->payload().empty());
}

TEST_CASE("an opaque block is stamped like any other") {
  random_engine random(14);
  identity id = random_identity(random);
  aligned_bytes bytes = opaque_block(id, random_bytes(random, 10), 5);
  REQUIRE(stamp(bytes.span(), 3, 4));
  id.generation = 3;
  id.incarnation = 4;
  const auto block = verify(bytes.span(), id);
  REQUIRE(block);
  CHECK(block->layout_tag() == 5);
  CHECK(block->payload().size() == 10);
}
