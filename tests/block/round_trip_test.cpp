#include <weft/block/band_verifier.hpp>

#include <doctest/doctest.h>

#include "sample_blocks.hpp"

#include <algorithm>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {

// Row `row` of a layer of a band holds `source`: as it is, or in the band's codec.
bool row_matches(const shape& s, codec coding, const std::byte* codes, const std::uint16_t* scales,
                 std::size_t row, const std::byte* source) {
  const std::size_t width = kernels::code_bytes(coding, s.dtype, s.head_dim);
  if (coding == codec::raw) return std::memcmp(codes + row * width, source, width) == 0;
  const std::size_t groups = kernels::scales_per_row(coding, s.head_dim);
  std::vector<std::byte> expected(width);
  std::vector<std::uint16_t> expected_scales(groups);
  const std::uint16_t first = 0;
  kernels::encode_rows(coding, s.dtype, source, 0, {&first, 1}, s.head_dim, expected.data(),
                       expected_scales.data());
  return std::memcmp(codes + row * width, expected.data(), width) == 0 &&
         std::memcmp(scales + row * groups, expected_scales.data(), 2 * groups) == 0;
}

// Compares one layer of one band with what the sample says; returns false at the first difference.
bool layer_matches(const sample& expected, const view& actual, std::uint32_t band, std::uint32_t layer,
                   std::size_t first_position) {
  const shape& s = expected.dimensions;
  const band_layer rows = actual.layer(band, layer);
  if (rows.coding != expected.bands[band].coding) return false;
  std::size_t row = 0;
  for (std::uint32_t head = 0; head < s.kv_heads; ++head) {
    const std::uint16_t count = expected.bands[band].counts[layer * s.kv_heads + head];
    if (rows.counts[head] != count) return false;
    for (std::uint16_t i = 0; i < count; ++i, ++row) {
      const std::uint16_t position = expected.bands[band].positions[first_position + row];
      if (rows.positions[row] != position) return false;
      const std::byte* k = expected.row(expected.k.data(), layer, head, position);
      const std::byte* v = expected.row(expected.v.data(), layer, head, position);
      if (!row_matches(s, rows.coding, rows.k, rows.k_scales, row, k)) return false;
      if (!row_matches(s, rows.coding, rows.v, rows.v_scales, row, v)) return false;
    }
  }
  return rows.rows == row;
}

bool band_matches(const sample& expected, const view& actual, std::uint32_t band) {
  std::size_t first_position = 0;
  for (std::uint32_t layer = 0; layer < expected.dimensions.layers; ++layer) {
    if (!layer_matches(expected, actual, band, layer, first_position)) return false;
    first_position += actual.layer(band, layer).rows;
  }
  return first_position == expected.bands[band].positions.size() &&
         actual.min_score(band) == expected.bands[band].min_score &&
         actual.coding(band) == expected.bands[band].coding;
}

bool aligned(const std::byte* base, const void* part) {
  return (static_cast<const std::byte*>(part) - base) % static_cast<std::ptrdiff_t>(part_alignment_bytes) ==
         0;
}

bool parts_are_aligned(const sample& s, const view& block) {
  const std::byte* base = s.bytes.span().data();
  for (std::uint32_t band = 0; band < block.band_count(); ++band)
    for (std::uint32_t layer = 0; layer < s.dimensions.layers; ++layer) {
      const band_layer rows = block.layer(band, layer);
      if (!aligned(base, rows.counts) || !aligned(base, rows.k) || !aligned(base, rows.v)) return false;
      if (rows.coding != codec::raw && (!aligned(base, rows.k_scales) || !aligned(base, rows.v_scales)))
        return false;
    }
  return true;
}

}  // namespace

TEST_CASE("what was written is read back row by row, for random shapes, bands and strides") {
  random_engine random(1);
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    const sample s = random_sample(random);
    const auto block = verify(s.bytes.span(), s.id);
    REQUIRE(block);
    CHECK(block->id() == s.id);
    CHECK(block->dimensions() == s.dimensions);
    CHECK(!block->is_opaque());
    REQUIRE(block->band_count() == s.bands.size());
    CHECK(block->bands_present() == s.bands.size());
    for (std::uint32_t band = 0; band < block->band_count(); ++band)
      CHECK(band_matches(s, *block, band));
    CHECK(parts_are_aligned(s, *block));
  }
}

TEST_CASE("a block that was cut behind band k-1 is valid for k bands") {
  random_engine random(2);
  for (int round = 0; round < 100; ++round) {
    const sample s = random_sample(random);
    const auto whole = view::parse(s.bytes.span());
    REQUIRE(whole);
    for (std::uint32_t bands = 1; bands <= whole->band_count(); ++bands) {
      const aligned_bytes fetched(s.bytes.span().first(whole->end_of_band(bands - 1)));
      const auto part = verify(fetched.span(), s.id);
      REQUIRE(part);
      CHECK(part->bytes().data() == fetched.span().data());
      CHECK(part->bytes().size() == fetched.span().size());
      CHECK(part->bands_present() == bands);
      CHECK(part->band_count() == whole->band_count());
      for (std::uint32_t band = 0; band < bands; ++band)
        CHECK(band_matches(s, *part, band));
      if (bands < whole->band_count()) CHECK_THROWS_AS(part->layer(bands, 0), std::out_of_range);
    }
  }
}

TEST_CASE("the header region alone tells where everything lies, but is no block") {
  random_engine random(3);
  const sample s = random_sample(random);
  const auto whole = view::parse(s.bytes.span());
  REQUIRE(whole);
  const aligned_bytes fetched(s.bytes.span().first(whole->header_bytes()));
  const auto header = view::parse(fetched.span());
  REQUIRE(header);
  CHECK(header->bands_present() == 0);
  CHECK(header->end_of_band(header->band_count() - 1) == s.bytes.span().size());
  const auto verified = verify(fetched.span(), s.id);
  REQUIRE(!verified);
  CHECK(verified.error().code == errc::corrupt);
}

TEST_CASE("layers of a band are its bytes cut into ranges without gaps") {
  random_engine random(4);
  for (int round = 0; round < 50; ++round) {
    const sample s = random_sample(random);
    const auto block = view::parse(s.bytes.span());
    REQUIRE(block);
    for (std::uint32_t band = 0; band < block->band_count(); ++band) {
      std::size_t next = block->range_of_band(band).offset;
      for (std::uint32_t layer = 0; layer < s.dimensions.layers; ++layer) {
        const byte_range range = block->range_of_layer(band, layer);
        CHECK(range.offset == next);
        next += range.bytes;
      }
      CHECK(next == block->end_of_band(band));
    }
  }
}

TEST_CASE("a block that was not scored is one band of all rows") {
  random_engine random(5);
  const shape s{.layers = 3, .kv_heads = 2, .head_dim = 16, .tokens = 64, .dtype = kernels::dtype::bf16};
  const sample made = make_sample(random, s, {all_rows(s)});
  const auto block = verify(made.bytes.span(), made.id);
  REQUIRE(block);
  CHECK(band_matches(made, *block, 0));
  CHECK(block->layer(0, 2).rows == 128);
  const std::size_t layer_bytes = 320 + 2 * 128 * 16 * 2;  // 2 * (2 + 128) of index fill 5 parts of 64
  CHECK(made.bytes.span().size() == 192 + 3 * layer_bytes);
}

TEST_CASE("a band's codec decides how many bytes it takes") {
  random_engine random(9);
  const shape s{.layers = 2, .kv_heads = 2, .head_dim = 64, .tokens = 64, .dtype = kernels::dtype::bf16};
  const auto layer_bytes = [&](codec coding) {
    band_rows rows = all_rows(s);
    rows.coding = coding;
    const sample made = make_sample(random, s, {rows});
    return view::parse(made.bytes.span())->range_of_layer(0, 1).bytes;
  };
  CHECK(layer_bytes(codec::raw) == 320 + 2 * 128 * 128);
  CHECK(layer_bytes(codec::int8) == 320 + 2 * 128 * (64 + 2));
  CHECK(layer_bytes(codec::int4) == 320 + 2 * 128 * (32 + 4));
}

TEST_CASE("the first k bands of a block are the smaller block's rows") {
  random_engine random(6);
  const shape s{.layers = 2, .kv_heads = 2, .head_dim = 8, .tokens = 32, .dtype = kernels::dtype::f16};
  band_rows even, odd;
  for (int head = 0; head < 4; ++head) {
    even.counts.push_back(16);
    odd.counts.push_back(16);
    for (std::uint16_t token = 0; token < 32; ++token)
      (token % 2 ? odd : even).positions.push_back(token);
  }
  const sample both = make_sample(random, s, {even, odd});
  const auto block = verify(both.bytes.span(), both.id);
  REQUIRE(block);
  CHECK(block->layer(0, 1).positions[1] == 2);
  CHECK(block->layer(1, 1).positions[1] == 3);
}

TEST_CASE("stamping changes the identity and nothing else") {
  random_engine random(7);
  sample s = random_sample(random);
  const aligned_bytes before(s.bytes.span());
  REQUIRE(stamp(s.bytes.span(), 41, 42));
  identity stamped = s.id;
  stamped.generation = 41;
  stamped.incarnation = 42;
  CHECK(verify(s.bytes.span(), stamped));
  const auto old = verify(s.bytes.span(), s.id);
  REQUIRE(!old);
  CHECK(old.error().code == errc::stale);
  REQUIRE(stamp(s.bytes.span(), s.id.generation, s.id.incarnation));
  CHECK(std::ranges::equal(before.span(), s.bytes.span()));
}

TEST_CASE("a band that arrives in pieces proves itself as well") {
  random_engine random(8);
  const sample s = random_sample(random);
  const auto block = view::parse(s.bytes.span());
  REQUIRE(block);
  const byte_range range = block->range_of_band(0);
  const auto band = s.bytes.span().subspan(range.offset, range.bytes);

  band_verifier whole(*block, 0);
  for (std::size_t i = 0; i < band.size(); i += 37)
    whole.append(band.subspan(i, std::min<std::size_t>(37, band.size() - i)));
  CHECK(whole.finish());

  band_verifier shorter(*block, 0);
  shorter.append(band.first(band.size() - 1));
  CHECK(!shorter.finish());

  band_verifier longer(*block, 0);
  longer.append(band);
  longer.append(band.first(1));
  CHECK(!longer.finish());

  aligned_bytes damaged(band);
  damaged[0] ^= std::byte{1};
  band_verifier other(*block, 0);
  other.append(damaged.span());
  const auto refused = other.finish();
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::corrupt);
}
