#include <weft/engine/document.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/row_codec.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "stored_document.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

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

namespace {

std::vector<weft::block::band_rows> raw_and_int8(const weft::block::shape& shape) {
  auto bands = two_bands(shape);
  bands[1].coding = weft::block::codec::int8;
  return bands;
}

kv_shape coded_shape(const runner& model, weft::kernels::row_codec coding) {
  auto shape = model.cache_shape();
  shape.coding = coding;
  return shape;
}

// Of one (layer, KV head), whatever the cache's codec.
std::vector<float> keys_of(kv_cache& cache, std::uint32_t layer, std::uint32_t head) {
  const auto run = cache.run(layer, head);
  std::vector<float> keys(std::size_t{run.rows} * cache.shape().head_dim);
  if (run.coding == weft::kernels::row_codec::raw)
    weft::kernels::to_f32(cache.shape().dtype, run.k, keys.data(), keys.size());
  else
    weft::kernels::decode_rows(run.coding, run.k, run.k_scales, run.rows, cache.shape().head_dim,
                               weft::kernels::dtype::f32, reinterpret_cast<std::byte*>(keys.data()));
  return keys;
}

double relative_error(const std::vector<float>& found, const std::vector<float>& expected) {
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (found[i] - expected[i]) * (found[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(error / size);
}

}  // namespace

TEST_CASE("bands in a codec load beside raw ones, which stay as they are") {
  auto model = load_recall({.threads = 2});
  const auto document = encode_document(model, some_tokens(100, 3, 1000));
  REQUIRE(document);
  const stored_document raw(*document, 32, two_bands);
  const stored_document mixed(*document, 32, raw_and_int8);
  kv_cache expected(model.cache_shape(), room), loaded(model.cache_shape(), room);
  REQUIRE(scatter_blocks(model, expected, placed_from(raw, 13, 4, 2)));
  REQUIRE(scatter_blocks(model, loaded, placed_from(mixed, 13, 4, 2)));
  const double error = relative_error(keys_of(loaded, 2, 1), keys_of(expected, 2, 1));
  CHECK(error > 1e-4);
  CHECK(error < 0.01);
  const std::size_t row_bytes = model.cache_shape().row_bytes();
  CHECK(std::equal(loaded.k(2, 1), loaded.k(2, 1) + row_bytes, expected.k(2, 1)));  // token 0: in band 0

  kv_cache first(model.cache_shape(), room), first_raw(model.cache_shape(), room);
  REQUIRE(scatter_blocks(model, first, placed_from(mixed, 13, 4, 1)));
  REQUIRE(scatter_blocks(model, first_raw, placed_from(raw, 13, 4, 1)));
  CHECK(same_rows(first, first_raw));
}

TEST_CASE("a cache in a codec takes rows from blocks and from the model, and answers nearly the same") {
  auto model = load_recall({.threads = 2});
  const auto tokens = some_tokens(100, 3, 1000);
  const auto question = some_tokens(9, 8, 1000);
  const auto document = encode_document(model, tokens);
  REQUIRE(document);
  const stored_document stored(*document, 32, raw_and_int8);
  const auto answer = [&](kv_cache& cache) {
    REQUIRE(scatter_blocks(model, cache, placed_from(stored, 0, 1, 2)));
    row_batch batch;
    add_rows(batch, question, 100);
    auto logits = run(model, batch, cache);
    // And a decode step behind it.
    row_batch step;
    step.add(5, 109, 0);
    const auto next = run(model, step, cache);
    logits.insert(logits.end(), next.begin(), next.end());
    return logits;
  };
  kv_cache raw(model.cache_shape(), room);
  const auto expected = answer(raw);
  for (const auto coding : {weft::kernels::row_codec::int8, weft::kernels::row_codec::int4}) {
    CAPTURE(weft::kernels::name_of(coding));
    const bool fine = coding == weft::kernels::row_codec::int8;
    kv_cache cache(coded_shape(model, coding), room);
    const auto logits = answer(cache);
    CHECK(relative_error(logits, expected) > 1e-4);
    CHECK(relative_error(logits, expected) < (fine ? 0.06 : 0.35));
    CHECK(relative_error(keys_of(cache, 1, 1), keys_of(raw, 1, 1)) < (fine ? 0.02 : 0.2));
    CHECK(cache.allocated_bytes() <
          raw.allocated_bytes() * (fine ? 64 : 42) / 100);  // with 8 bytes of ids a row
  }
}

namespace {

// Rows raw, in int8 and in int4 in turn; the first head of all has nothing but raw ones.
std::vector<weft::block::band_rows> three_codecs(const weft::block::shape& shape) {
  std::vector<weft::block::band_rows> bands(3);
  bands[1].coding = weft::block::codec::int8;
  bands[2].coding = weft::block::codec::int4;
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      std::uint16_t counts[3] = {0, 0, 0};
      for (std::uint32_t token = 0; token < shape.tokens; ++token) {
        const std::size_t band = layer + head == 0 ? 0 : token % 3;
        bands[band].positions.push_back(static_cast<std::uint16_t>(token));
        ++counts[band];
      }
      for (std::size_t band = 0; band < 3; ++band)
        bands[band].counts.push_back(counts[band]);
    }
  return bands;
}

// Room for exactly these rows, in one codec.
std::vector<std::uint32_t> rows_in(const stored_document& stored, std::size_t band) {
  std::vector<std::uint32_t> rows;
  for (const auto& block : stored.blocks()) {
    const auto& shape = block.dimensions();
    rows.resize(std::size_t{shape.layers} * shape.kv_heads);
    for (std::size_t i = 0; i < rows.size(); ++i)
      rows[i] += block.layer(static_cast<std::uint32_t>(band), static_cast<std::uint32_t>(i / shape.kv_heads))
                     .counts[i % shape.kv_heads];
  }
  return rows;
}

}  // namespace

TEST_CASE("rows in several codecs stay in them, and sessions attend to all of them") {
  using weft::kernels::row_codec;
  auto model = load_recall({.threads = 2});
  const auto document = encode_document(model, some_tokens(100, 3, 1000));
  REQUIRE(document);
  const stored_document mixed(*document, 32, three_codecs);
  const auto placed = placed_from(mixed, 0, 1, 3);
  auto raw_rows = std::make_shared<kv_cache>(model.cache_shape(), rows_in(mixed, 0));
  auto int8_rows =
      std::make_shared<kv_cache>(raw_rows, coded_shape(model, row_codec::int8), rows_in(mixed, 1));
  auto int4_rows =
      std::make_shared<kv_cache>(int8_rows, coded_shape(model, row_codec::int4), rows_in(mixed, 2));
  kv_cache* const caches[] = {raw_rows.get(), int8_rows.get(), int4_rows.get()};
  REQUIRE(scatter_blocks(model, caches, placed));
  CHECK(raw_rows->rows(0, 0) == 100);
  CHECK(int4_rows->rows(0, 0) == 0);
  CHECK(raw_rows->rows(2, 1) + int8_rows->rows(2, 1) + int4_rows->rows(2, 1) == 100);

  // Each codec's rows are those of a cache in which it is alone.
  for (std::uint32_t band = 0; band < 3; ++band) {
    CAPTURE(band);
    kv_cache alone(caches[band]->shape(), room);
    kv_cache others(caches[(band + 1) % 3]->shape(), room);
    kv_cache* const two[] = {&others, &alone};
    REQUIRE(scatter_blocks(model, two, placed));
    CHECK(keys_of(alone, 2, 1) == keys_of(*caches[band], 2, 1));
  }

  const auto answer = [&](kv_cache& cache) {
    row_batch batch;
    add_rows(batch, some_tokens(9, 8, 1000), 100);
    auto logits = run(model, batch, cache);
    row_batch step;
    step.add(5, 109, 0);
    const auto next = run(model, step, cache);
    logits.insert(logits.end(), next.begin(), next.end());
    return logits;
  };
  const std::vector<std::uint32_t> tail(rows_in(mixed, 0).size(), 10);
  kv_cache session(int4_rows, tail);
  kv_cache decoded(model.cache_shape(), room);
  REQUIRE(scatter_blocks(model, decoded, placed));
  kv_cache exact(model.cache_shape(), room);
  REQUIRE(scatter_document(model, exact, *document, 0, 1));
  const auto logits = answer(session);
  CHECK(relative_error(logits, answer(decoded)) < 0.1);  // keys were encoded once more behind their rotation
  const double error = relative_error(logits, answer(exact));
  CHECK(error > 1e-4);
  CHECK(error < 0.35);

  std::size_t bytes = kv_cache(model.cache_shape(), tail).allocated_bytes();
  for (const kv_cache* cache : caches)
    bytes += cache->allocated_bytes();
  CHECK(session.allocated_bytes_with_base() == bytes);
  kv_cache all_raw(model.cache_shape(), 100);
  CHECK(int4_rows->allocated_bytes_with_base() < all_raw.allocated_bytes() * 8 / 10);

  kv_cache small(coded_shape(model, row_codec::int8), 3);
  kv_cache* const too_small[] = {&decoded, &small};
  const auto before = decoded.rows(2, 1);
  CHECK(scatter_blocks(model, too_small, placed).error().code == errc::out_of_space);
  CHECK(decoded.rows(2, 1) == before);
}

TEST_CASE("rows in a codec move with their scales when others come before them") {
  auto model = load_recall({.threads = 2});
  const auto document = encode_document(model, some_tokens(40, 3, 1000));
  REQUIRE(document);
  kv_cache cache(coded_shape(model, weft::kernels::row_codec::int4), room);
  REQUIRE(scatter_document(model, cache, *document, 20, 1));
  const auto before = keys_of(cache, 2, 1);
  row_batch earlier;
  add_rows(earlier, some_tokens(7, 4, 1000), 0);
  run(model, earlier, cache);
  const auto after = keys_of(cache, 2, 1);
  REQUIRE(after.size() == before.size() + 7 * 32);
  CHECK(std::equal(before.begin(), before.end(), after.begin() + 7 * 32));
}

TEST_CASE("blocks that come once more are written over the first ones, and take no new room") {
  auto model = load_recall({.threads = 2});
  const auto document = encode_document(model, some_tokens(64, 5, 1000));
  REQUIRE(document);
  const stored_document stored(*document, 32);
  kv_cache cache(model.cache_shape(), 64);
  REQUIRE(scatter_blocks(model, cache, placed_from(stored, 0, 1, 1)));
  const auto once = keys_of(cache, 2, 1);
  REQUIRE(scatter_blocks(model, cache, placed_from(stored, 0, 1, 1)));
  CHECK(cache.rows(2, 1) == 64);
  CHECK(keys_of(cache, 2, 1) == once);
  CHECK(scatter_blocks(model, cache, placed_from(stored, 1, 1, 1)).error().code == errc::out_of_space);
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
