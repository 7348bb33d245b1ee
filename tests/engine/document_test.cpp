#include <weft/engine/document.hpp>
#include <weft/engine/stitch.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "stored_document.hpp"

#include <algorithm>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

namespace {

constexpr std::uint32_t room = 256;

std::vector<placed_block> placed_from(const stored_document& stored, std::int32_t position,
                                      std::int32_t segment, std::uint32_t bands) {
  std::vector<placed_block> placed;
  for (const auto& block : stored.blocks()) {
    placed.push_back({&block, bands, position, segment});
    position += static_cast<std::int32_t>(block.dimensions().tokens);
  }
  return placed;
}

}  // namespace

TEST_CASE("a loaded document is in the cache what computing it there gives, bit for bit") {
  for (const auto dtype :
       {weft::kernels::dtype::f32, weft::kernels::dtype::bf16, weft::kernels::dtype::f16}) {
    CAPTURE(weft::kernels::name_of(dtype));
    auto model = load_recall({.threads = 2, .cache_dtype = dtype});
    const auto tokens = some_tokens(150, 1, 1000);
    kv_cache computed(model.cache_shape(), room);
    row_batch batch;
    add_rows(batch, tokens, 0, 1);
    run(model, batch, computed);

    const auto document = encode_document(model, tokens);
    REQUIRE(document);
    const stored_document stored(*document, 64);
    CHECK(stored.blocks().size() == 3);
    CHECK(stored.blocks().back().dimensions().tokens == 22);
    kv_cache loaded(model.cache_shape(), room);
    REQUIRE(scatter_blocks(model, loaded, placed_from(stored, 0, 1, 1)));
    CHECK(same_rows(loaded, computed));
  }
}

TEST_CASE("a document's first keys are rotated to any position as if computed there") {
  // The first layer's keys depend on the tokens and the position only, so they are equal bit for bit; what
  // follows differs by the rounding of angles in attention.
  auto model = load_recall({.threads = 2});
  const auto tokens = some_tokens(90, 2, 1000);
  constexpr std::int32_t start = 77;
  kv_cache computed(model.cache_shape(), room);
  row_batch batch;
  add_rows(batch, tokens, start, 1);
  run(model, batch, computed);
  const auto document = encode_document(model, tokens);
  REQUIRE(document);
  kv_cache loaded(model.cache_shape(), room);
  REQUIRE(scatter_document(model, loaded, *document, start, 1));
  const std::size_t bytes =
      tokens.size() * model.cache_shape().head_dim * weft::kernels::size_bytes(model.cache_shape().dtype);
  for (std::uint32_t head = 0; head < model.cache_shape().kv_heads; ++head) {
    CHECK(std::equal(loaded.k(0, head), loaded.k(0, head) + bytes, computed.k(0, head)));
    CHECK(std::equal(loaded.v(0, head), loaded.v(0, head) + bytes, computed.v(0, head)));
  }
}

TEST_CASE("blocks, bands and whole documents load the same rows") {
  auto model = load_recall({.threads = 2});
  const auto tokens = some_tokens(100, 3, 1000);
  const auto document = encode_document(model, tokens);
  REQUIRE(document);
  kv_cache whole(model.cache_shape(), room);
  REQUIRE(scatter_document(model, whole, *document, 13, 4));
  CHECK(whole.segments(2, 1)[99] == 4);
  CHECK(whole.positions(2, 1)[99] == 112);
  const stored_document banded(*document, 32, two_bands);
  kv_cache from_bands(model.cache_shape(), room);
  REQUIRE(scatter_blocks(model, from_bands, placed_from(banded, 13, 4, 2)));
  CHECK(same_rows(whole, from_bands));
}

TEST_CASE("the first bands of blocks are a ragged cache") {
  auto model = load_recall({.threads = 2});
  const auto document = encode_document(model, some_tokens(64, 4, 1000));
  REQUIRE(document);
  const stored_document banded(*document, 32, two_bands);
  kv_cache cache(model.cache_shape(), room);
  REQUIRE(scatter_blocks(model, cache, placed_from(banded, 0, 1, 1)));
  CHECK(cache.rows(0, 0) == 2 * 21);  // multiples of 2 or 3 below 32
  CHECK(cache.rows(3, 1) == 2 * 11);
  CHECK(std::is_sorted(cache.positions(3, 1), cache.positions(3, 1) + 22));
  CHECK(cache.positions(3, 1)[11] == 32);

  kv_cache full(model.cache_shape(), room);
  REQUIRE(scatter_document(model, full, *document, 0, 1));
  const std::size_t row_bytes = 32 * weft::kernels::size_bytes(model.cache_shape().dtype);
  for (std::uint32_t row = 0; row < 22; ++row) {
    const std::size_t position = static_cast<std::size_t>(cache.positions(3, 1)[row]);
    CHECK(std::equal(cache.k(3, 1) + row * row_bytes, cache.k(3, 1) + (row + 1) * row_bytes,
                     full.k(3, 1) + position * row_bytes));
  }
}

TEST_CASE("documents that cannot be encoded or placed are refused") {
  auto model = load_recall({.threads = 2});
  CHECK(encode_document(model, {}).error().code == errc::invalid_argument);
  const std::vector<token_id> endless(5000, 1);
  CHECK(encode_document(model, endless).error().code == errc::invalid_argument);
  CHECK(encode_document(model, std::vector<token_id>{1, 2, 99999}).error().code == errc::invalid_argument);

  const auto document = encode_document(model, some_tokens(64, 5, 1000));
  REQUIRE(document);
  const stored_document stored(*document, 32);
  kv_cache small(model.cache_shape(), 63);
  CHECK(scatter_blocks(model, small, placed_from(stored, 0, 1, 1)).error().code == errc::out_of_space);
  CHECK(small.rows(0, 0) == 0);
  CHECK(scatter_document(model, small, *document, 0, 1).error().code == errc::out_of_space);
  CHECK(small.rows(0, 0) == 0);
  kv_cache cache(model.cache_shape(), room);
  CHECK(scatter_blocks(model, cache, placed_from(stored, 0, 1, 2)).error().code == errc::invalid_argument);
  auto backwards = placed_from(stored, 0, 1, 1);
  std::swap(backwards[0], backwards[1]);
  CHECK(scatter_blocks(model, cache, backwards).error().code == errc::invalid_argument);
  auto other = model.cache_shape();
  other.layers = 2;
  kv_cache foreign(other, room);
  CHECK(scatter_blocks(model, foreign, placed_from(stored, 0, 1, 1)).error().code == errc::invalid_argument);
}
