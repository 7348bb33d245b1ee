#include <weft/block/proven_layer.hpp>

#include <doctest/doctest.h>

#include "sample_blocks.hpp"

#include <cstring>
#include <vector>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {

// One layer of every band of a block, apart from the rest of it.
struct fetched_layer {
  fetched_layer(const view& whole, std::span<const std::byte> block, std::uint32_t layer) {
    for (std::uint32_t band = 0; band < whole.band_count(); ++band) {
      const auto range = whole.range_of_layer(band, layer);
      memory.emplace_back(block.subspan(range.offset, range.bytes));
      checksums.push_back(layer_checksum(memory.back().span()));
    }
    for (std::uint32_t band = 0; band < whole.band_count(); ++band)
      bands.push_back({memory[band].span(), whole.coding(band)});
  }

  std::vector<aligned_bytes> memory;
  std::vector<layer_bytes> bands;
  std::vector<std::uint64_t> checksums;
};

bool same_bytes(const void* a, const void* b, std::size_t bytes) {
  return bytes == 0 || std::memcmp(a, b, bytes) == 0;
}

}  // namespace

TEST_CASE("one layer by itself has the rows, codes and scales that the whole block has there") {
  random_engine random(21);
  for (int turn = 0; turn < 60; ++turn) {
    CAPTURE(turn);
    const sample made = random_sample(random);
    const shape& s = made.dimensions;
    const auto whole = view::parse(made.bytes.span()).value();
    const std::uint32_t layer = pick(random, 0, s.layers - 1);
    const fetched_layer fetched(whole, made.bytes.span(), layer);
    const auto proven = proven_layer(s, fetched.bands, fetched.checksums);
    REQUIRE(proven);
    REQUIRE(proven->size() == whole.band_count());
    for (std::uint32_t band = 0; band < whole.band_count(); ++band) {
      const band_layer expected = whole.layer(band, layer);
      const band_layer& found = (*proven)[band];
      CHECK(found.coding == expected.coding);
      REQUIRE(found.rows == expected.rows);
      const std::size_t codes = found.rows * kernels::code_bytes(found.coding, s.dtype, s.head_dim);
      const std::size_t scales = found.rows * kernels::scales_per_row(found.coding, s.head_dim) * 2;
      CHECK(same_bytes(found.counts, expected.counts, s.kv_heads * 2));
      CHECK(same_bytes(found.positions, expected.positions, found.rows * 2));
      CHECK(same_bytes(found.k, expected.k, codes));
      CHECK(same_bytes(found.v, expected.v, codes));
      CHECK(same_bytes(found.k_scales, expected.k_scales, scales));
      CHECK(same_bytes(found.v_scales, expected.v_scales, scales));
    }
  }
}

TEST_CASE("a layer with another byte, or in a codec that there is not, proves nothing") {
  random_engine random(22);
  for (int turn = 0; turn < 60; ++turn) {
    CAPTURE(turn);
    const sample made = random_sample(random);
    const auto whole = view::parse(made.bytes.span()).value();
    fetched_layer fetched(whole, made.bytes.span(), 0);
    const std::uint32_t band = pick(random, 0, whole.band_count() - 1);
    if (fetched.bands[band].bytes.empty()) continue;

    auto unknown = fetched.bands;
    unknown[band].coding = static_cast<codec>(7);
    CHECK(!proven_layer(made.dimensions, unknown, fetched.checksums));

    auto& damaged = fetched.memory[band];
    damaged[pick(random, 0, static_cast<std::uint32_t>(damaged.span().size()) - 1)] ^= std::byte{1};
    CHECK(!proven_layer(made.dimensions, fetched.bands, fetched.checksums));
  }
}
