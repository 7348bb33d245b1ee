// Blocks that are proven by parts, as those on a device are.
#include <weft/block/block_proof.hpp>

#include <doctest/doctest.h>

#include "../fuzz/resealed_block.hpp"
#include "sample_blocks.hpp"

#include <algorithm>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {

errc code_of(const result<void>& outcome) {
  return outcome ? errc::ok : outcome.error().code;
}

// Of bytes that lie elsewhere only what the ranges name comes to `place`.
errc proven_by_parts(std::span<const std::byte> elsewhere, const identity& id, std::span<std::byte> place) {
  const auto bring = [&](const byte_range& range) {
    std::ranges::copy(elsewhere.subspan(range.offset, range.bytes),
                      place.begin() + static_cast<std::ptrdiff_t>(range.offset));
  };
  bring(range_of_header(elsewhere.size()));
  const auto block = view::parse(place);
  if (!block) return block.error().code;
  if (auto right =
          check_identity(block->id(), {id.key, false, id.fingerprint, false, id.generation, id.incarnation});
      !right)
    return right.error().code;
  std::vector<std::uint64_t> sums;
  for (std::uint32_t band = 0; band < block->bands_present(); ++band) {
    const byte_range range = block->range_of_band(band);
    sums.push_back(XXH3_64bits(elsewhere.data() + range.offset, range.bytes));
    for (std::uint32_t layer = 0; layer < block->dimensions().layers; ++layer)
      bring(range_of_index(*block, band, layer));
  }
  if (auto right = check_sums(*block, sums); !right) return right.error().code;
  return code_of(block->verify_rows());
}

sample large_sample(random_engine& random) {
  const shape s{.layers = 3, .kv_heads = 3, .head_dim = 33, .tokens = 200, .dtype = kernels::dtype::f32};
  return make_sample(random, s, random_bands(random, s, 3));
}

}  // namespace

TEST_CASE("a block that is proven by its parts is what the whole block is") {
  random_engine random(81);
  for (int i = 0; i < 40; ++i) {
    const sample s = i < 4 ? large_sample(random) : random_sample(random);
    aligned_bytes place(s.bytes.span().size());
    CHECK(proven_by_parts(s.bytes.span(), s.id, place.span()) == errc::ok);
    const auto expected = view::parse(s.bytes.span()), found = view::parse(place.span());
    for (std::uint32_t band = 0; band < found->bands_present(); ++band)
      for (std::uint32_t layer = 0; layer < s.dimensions.layers; ++layer) {
        const auto a = expected->layer(band, layer), b = found->layer(band, layer);
        REQUIRE(a.rows == b.rows);
        CHECK(std::equal(a.positions, a.positions + a.rows, b.positions));
      }
  }
}

TEST_CASE(
    "whatever byte of a long block is other, behind right checksums, its parts say what the whole says") {
  random_engine random(82);
  const sample s = large_sample(random);
  const auto whole = view::parse(s.bytes.span());
  const auto check = [&](std::size_t at) {
    aligned_bytes bytes(s.bytes.span()), place(s.bytes.span().size());
    bytes[at] ^= static_cast<std::byte>(1 + random() % 255);
    fuzz::reseal(bytes.span());
    const auto expected = verify(bytes.span(), s.id);
    REQUIRE_MESSAGE(
        proven_by_parts(bytes.span(), s.id, place.span()) == (expected ? errc::ok : expected.error().code),
        "byte ", at);
  };
  for (std::size_t at = 0; at < whole->header_bytes(); ++at)
    check(at);
  for (std::uint32_t band = 0; band < 3; ++band)
    for (std::uint32_t layer = 0; layer < 3; ++layer) {
      const byte_range range = whole->range_of_layer(band, layer);
      for (std::size_t i = 0; i < 200; ++i)
        check(range.offset + random() % std::min<std::size_t>(range.bytes, 600));
    }
}

TEST_CASE("indexes are named inside their layers, and take little of them") {
  random_engine random(83);
  for (int i = 0; i < 40; ++i) {
    const sample s = large_sample(random);
    const auto block = view::parse(s.bytes.span());
    for (std::uint32_t band = 0; band < 3; ++band)
      for (std::uint32_t layer = 0; layer < 3; ++layer) {
        const byte_range all = block->range_of_layer(band, layer),
                         index = range_of_index(*block, band, layer);
        CHECK(index.offset == all.offset);
        CHECK(index.bytes <= all.bytes);
        const auto rows = block->layer(band, layer);
        const auto used = static_cast<std::size_t>(rows.k - (s.bytes.span().data() + all.offset));
        CHECK(index.bytes >= used);
        CHECK(index.bytes <= used + used / 4 + part_alignment_bytes);
      }
  }
}

TEST_CASE("a block without sums is not proven, and one wrong sum is enough") {
  random_engine random(84);
  const sample s = large_sample(random);
  const auto block = view::parse(s.bytes.span());
  CHECK(code_of(check_sums(*block, {})) == errc::corrupt);
  std::vector<std::uint64_t> sums;
  for (std::uint32_t band = 0; band < 3; ++band)
    sums.push_back(block->checksum_of_band(band));
  CHECK(check_sums(*block, sums));
  CHECK(check_sums(*block, std::span(sums).first(2)));
  for (auto& sum : sums) {
    ++sum;
    CHECK(code_of(check_sums(*block, sums)) == errc::corrupt);
    --sum;
  }
}
