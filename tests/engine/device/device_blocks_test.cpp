// Blocks that a device writes of documents that it computed, byte for byte against the host's.
#include <weft/engine/written_blocks.hpp>

#include "../small_models.hpp"
#include "device_documents.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

#include <thread>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::block::codec;
using weft::kernels::dtype;

namespace {

runner load(const std::string& fixture, dtype cache, std::uint32_t chunk_rows) {
  auto options = options_on(device_under_test(), cache);
  options.chunk_rows = chunk_rows;
  return load_fixture(fixture, options);
}

void check_blocks(const banded_document& document, std::uint32_t block_tokens) {
  const auto& counted = blocks_of(*device_under_test());
  const auto before = counted.there.load();
  const auto expected = written_here(document, block_tokens);
  placed_blocks found(document, block_tokens);
  const auto done = write_blocks(document.rows(), block_tokens, found.places());
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
  CHECK(found.same_bytes(expected));
  CHECK(counted.there - before == found.places().size());
  for (const auto& place : found.places())
    CHECK(weft::block::verify(place.out, place.id));
}

}  // namespace

TEST_CASE("a device writes the blocks of its documents as the host does") {
  if (!device_under_test()) return;
  for (const auto* const fixture : {"llama", "qwen3"})
    for (const auto type : {dtype::f16, dtype::bf16, dtype::f32}) {
      auto model = load(fixture, type, type == dtype::f16 ? 17 : 512);
      const auto tokens = some_tokens(75, 3);
      check_blocks(unscored(model, tokens), 16);
      check_blocks(unscored(model, tokens), 256);
      check_blocks(scored(model, tokens, {}), 16);
      check_blocks(scored(model, tokens, {codec::raw, codec::int8, codec::int4}), 16);
      check_blocks(scored(model, tokens, {codec::int4, codec::raw, codec::int8}), 64);
    }
}

TEST_CASE("some of a document's blocks, in any order, and none") {
  if (!device_under_test()) return;
  auto model = load("llama", dtype::f16, 512);
  const auto document = scored(model, some_tokens(75, 3), {codec::raw, codec::int8, codec::int8});
  const auto expected = written_here(document, 16);
  const placed_blocks found(document, 16);
  std::vector<block_place> places(found.places().begin(), found.places().end());
  std::ranges::reverse(places);
  REQUIRE(write_blocks(document.rows(), 16, std::span(places).first(2)));
  REQUIRE(write_blocks(document.rows(), 16, {}));
  REQUIRE(write_blocks(document.rows(), 16, std::span(places).subspan(2)));
  CHECK(found.same_bytes(expected));
}

TEST_CASE("blocks are written while the model computes the next document") {
  if (!device_under_test()) return;
  auto model = load("llama", dtype::f16, 512);
  const auto tokens = some_tokens(40, 3);
  const auto document = scored(model, tokens, {codec::raw, codec::int8, codec::int4});
  const auto expected = written_here(document, 16);
  const placed_blocks found(document, 16);
  weft::result<void> done;
  std::thread writing([&] {
    for (int i = 0; i < 4 && done; ++i)
      done = write_blocks(document.rows(), 16, found.places());
  });
  const auto next = scored(model, tokens, {codec::raw, codec::int8, codec::int4});
  writing.join();
  REQUIRE(done);
  CHECK(found.same_bytes(expected));
  CHECK(written_here(next, 16).same_bytes(expected));
}

TEST_CASE("bands that contradict one another are refused, and nothing is written") {
  if (!device_under_test()) return;
  auto model = load("llama", dtype::f16, 512);
  const auto document = unscored(model, some_tokens(16, 3));
  const placed_blocks found(document, 16);
  block_place place = found.places().front();
  place.bands.push_back(place.bands.front());
  const auto refused = write_blocks(document.rows(), 16, {&place, 1});
  REQUIRE(!refused);
  CHECK(refused.error().code == weft::errc::invalid_argument);
  CHECK(std::ranges::all_of(place.out, [](std::byte b) { return b == std::byte{0xA5}; }));
}
