// Blocks that are put together by hand, in the places that the library names, are those that it writes.
#include <weft/block/band_places.hpp>

#include <doctest/doctest.h>

#include "sample_blocks.hpp"
#include <xxhash.h>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {

// Puts one layer of a band where it belongs, and zeros around it.
void put_layer(const sample& from, std::uint32_t band, std::uint32_t layer, std::size_t first_position,
               const layer_place& place, std::span<std::byte> out) {
  const shape& s = from.dimensions;
  const band_rows& rows = from.bands[band];
  const std::size_t code_bytes = kernels::code_bytes(rows.coding, s.dtype, s.head_dim);
  const std::size_t scales_bytes = 2 * kernels::scales_per_row(rows.coding, s.head_dim);
  std::memset(out.data() + place.index, 0, place.end - place.index);
  auto* index = reinterpret_cast<std::uint16_t*>(out.data() + place.index);
  for (std::uint32_t head = 0; head < s.kv_heads; ++head)
    *index++ = rows.counts[layer * s.kv_heads + head];
  std::size_t row = 0;
  for (std::uint32_t head = 0; head < s.kv_heads; ++head)
    for (std::uint16_t i = 0; i < rows.counts[layer * s.kv_heads + head]; ++i, ++row) {
      const std::uint16_t position = rows.positions[first_position + row];
      *index++ = position;
      const std::uint16_t first = 0;
      const auto put = [&](const std::vector<std::byte>& tensor, std::size_t codes, std::size_t scales) {
        const std::byte* const source = from.row(tensor.data(), layer, head, position);
        std::byte* const to = out.data() + codes + row * code_bytes;
        if (rows.coding == codec::raw)
          std::memcpy(to, source, code_bytes);
        else
          kernels::encode_rows(rows.coding, s.dtype, source, 0, {&first, 1}, s.head_dim, to,
                               reinterpret_cast<std::uint16_t*>(out.data() + scales + row * scales_bytes));
      };
      put(from.k, place.k, place.k_scales);
      put(from.v, place.v, place.v_scales);
    }
}

}  // namespace

TEST_CASE("rows in the places of a block, and its header, are what is written at once") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    random_engine random(seed);
    const sample expected = random_sample(random);
    aligned_bytes made(expected.bytes.span().size());
    REQUIRE(check_place(made.span(), expected.dimensions, expected.bands));
    const auto places = places_of(expected.dimensions, expected.bands);
    REQUIRE(places.size() == expected.bands.size());
    std::vector<std::uint64_t> checksums;
    for (std::uint32_t band = 0; band < places.size(); ++band) {
      std::size_t position = 0;
      for (std::uint32_t layer = 0; layer < expected.dimensions.layers; ++layer) {
        put_layer(expected, band, layer, position, places[band].layers[layer], made.span());
        for (std::uint32_t head = 0; head < expected.dimensions.kv_heads; ++head)
          position += expected.bands[band].counts[layer * expected.dimensions.kv_heads + head];
      }
      const byte_range& range = places[band].range;
      checksums.push_back(XXH3_64bits(made.span().data() + range.offset, range.bytes));
    }
    write_header(made.span(), expected.id, expected.dimensions, expected.bands, checksums);
    CHECK(std::memcmp(made.span().data(), expected.bytes.span().data(), made.span().size()) == 0);
  }
}

TEST_CASE("a place that is too small, or bands that share a row, are refused before anything is written") {
  random_engine random(1);
  const shape s{.layers = 1, .kv_heads = 1, .head_dim = 8, .tokens = 4, .dtype = kernels::dtype::f16};
  const std::vector<band_rows> twice{all_rows(s), all_rows(s)};
  aligned_bytes out(size_bytes(s, twice));
  CHECK(check_place(out.span(), s, twice).error().code == errc::invalid_argument);
  const std::vector<band_rows> once{all_rows(s)};
  CHECK(check_place(out.span().first(size_bytes(s, once)), s, once));
  CHECK(check_place(out.span().first(size_bytes(s, once) - 64), s, once).error().code ==
        errc::invalid_argument);
}
