#include <weft/block/layer_verifier.hpp>

#include <doctest/doctest.h>

#include "sample_blocks.hpp"

#include <cstring>
#include <optional>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {

// A block of which at first only the header is here.
struct travelling_block {
  explicit travelling_block(random_engine& random)
      : there(random_sample(random)), here(there.bytes.span().size()) {
    const auto whole = view::parse(there.bytes.span()).value();
    std::memcpy(here.span().data(), there.bytes.span().data(), whole.header_bytes());
    header.emplace(view::parse(here.span()).value());
  }

  void bring(std::uint32_t layer) {
    for (std::uint32_t band = 0; band < header->band_count(); ++band) {
      const auto range = header->range_of_layer(band, layer);
      if (range.bytes > 0)
        std::memcpy(here.span().data() + range.offset, there.bytes.span().data() + range.offset, range.bytes);
    }
  }

  std::uint32_t layers() const { return there.dimensions.layers; }

  sample there;
  aligned_bytes here;
  std::optional<view> header;
};

}  // namespace

TEST_CASE("a block is proven while its layers arrive") {
  random_engine random(11);
  for (int turn = 0; turn < 60; ++turn) {
    CAPTURE(turn);
    travelling_block block(random);
    layer_verifier proof(*block.header);
    for (std::uint32_t layer = 0; layer < block.layers(); ++layer) {
      block.bring(layer);
      proof.append_layer();
    }
    const auto proven = proof.finish();
    REQUIRE_MESSAGE(proven.has_value(), proven.error().context);
    CHECK(block.header->verify_bands());
  }
}

TEST_CASE("a layer that is missing or damaged anywhere proves nothing") {
  random_engine random(12);
  for (int turn = 0; turn < 60; ++turn) {
    CAPTURE(turn);
    travelling_block block(random);
    const auto range = block.header->range_of_layer(0, block.layers() - 1);
    if (range.bytes == 0) continue;
    layer_verifier damaged(*block.header), incomplete(*block.header);
    for (std::uint32_t layer = 0; layer < block.layers(); ++layer) {
      block.bring(layer);
      if (layer + 1 < block.layers()) incomplete.append_layer();
      if (layer + 1 == block.layers()) block.here[range.offset + random() % range.bytes] ^= std::byte{4};
      damaged.append_layer();
    }
    CHECK(damaged.finish().error().code == errc::corrupt);
    CHECK(incomplete.finish().error().code == errc::corrupt);
  }
}
