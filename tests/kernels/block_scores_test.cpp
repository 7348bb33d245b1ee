#include <weft/kernels/block_scores.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/block_scores.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace weft::kernels {
namespace {

enum class corner_order { any, lower_first };

struct random_keys {
  random_keys(testing::random_source& random, std::uint32_t most_vectors, std::uint32_t channels,
              corner_order corners = corner_order::any)
      : tiles(testing::all_dtypes[random.between(0, 2)], random.between(1, most_vectors), channels) {
    const testing::stored_values stored(tiles.type(), random.values(std::size_t{tiles.vectors()} * channels));
    values = stored.values_of_bytes;
    if (corners == corner_order::lower_first) sort_corners();
    for (std::uint32_t i = 0; i < tiles.vectors(); ++i)
      tiles.set(i, std::span(values).subspan(std::size_t{i} * channels, channels));
  }

  // The first half of a vector's channels below the second one.
  void sort_corners() {
    const std::size_t half = tiles.channels() / 2;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (i % tiles.channels() < half && values[i] > values[i + half]) std::swap(values[i], values[i + half]);
  }

  score_tiles tiles;
  std::vector<float> values;  // [vector][channel]
};

TEST_CASE("a block's share in the softmax equals its definition") {
  testing::on_every_target([] {
    thread_pool pool(3);
    workspace scratch;
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      CAPTURE(seed);
      testing::random_source random(seed);
      const std::uint32_t channels = random.between(1, 40);
      const std::uint32_t block_vectors = random.between(1, 40);
      const std::uint32_t lines = random.between(1, 21);
      const random_keys keys[] = {{random, seed % 10 == 0 ? 12000U : 2000U, channels},
                                  {random, 50, channels}};
      const auto queries = random.values(2 * lines * channels, 2.0F);
      std::vector<softmax_blocks> items;
      std::vector<float> sums[2];
      std::vector<softmax_total> totals[2];
      for (std::size_t i = 0; i < 2; ++i) {
        const std::uint32_t blocks = (keys[i].tiles.vectors() + block_vectors - 1) / block_vectors;
        sums[i].resize(std::size_t{lines} * blocks);
        totals[i].resize(lines);
        items.push_back({&keys[i].tiles, block_vectors, queries.data() + i * lines * channels, lines,
                         sums[i].data(), totals[i].data(), products::f32});
      }
      softmax_block_sums(items, scratch, pool);
      for (std::size_t i = 0; i < 2; ++i)
        for (std::size_t line = 0; line < lines; ++line) {
          const auto expected = reference::softmax_shares(keys[i].values, channels, block_vectors,
                                                          items[i].queries + line * channels);
          for (std::size_t block = 0; block < expected.size(); ++block) {
            const double share = sums[i][line * expected.size() + block] / totals[i][line].sum;
            REQUIRE(share == doctest::Approx(expected[block]).epsilon(1e-4).scale(0.01));
          }
        }
    }
  });
}

// Products of all vectors from the 700th on are `growth` times as large.
void check_blocks_of_tiles(std::uint32_t seed, std::uint32_t block_vectors, float growth) {
  constexpr std::uint32_t channels = 16;
  testing::random_source random(seed);
  const std::uint32_t lines = random.between(1, 9);
  const std::uint32_t vectors = random.between(1500, 6000);
  auto values = random.values(std::size_t{vectors} * channels);
  for (std::size_t i = std::size_t{700} * channels; i < values.size(); ++i)
    values[i] *= growth;
  score_tiles tiles(testing::all_dtypes[seed % 3], vectors, channels);
  values = testing::stored_values(tiles.type(), values).values_of_bytes;
  for (std::uint32_t i = 0; i < vectors; ++i)
    tiles.set(i, std::span(values).subspan(std::size_t{i} * channels, channels));
  const auto queries = random.values(std::size_t{lines} * channels, 0.5F);
  const std::uint32_t blocks = (vectors + block_vectors - 1) / block_vectors;
  std::vector<float> sums(std::size_t{lines} * blocks);
  std::vector<softmax_total> totals(lines);
  thread_pool pool(2);
  workspace scratch;
  const softmax_blocks item{&tiles,      block_vectors, queries.data(), lines,
                            sums.data(), totals.data(), products::f32};
  softmax_block_sums({&item, 1}, scratch, pool);
  for (std::size_t line = 0; line < lines; ++line) {
    const auto expected =
        reference::softmax_shares(values, channels, block_vectors, queries.data() + line * channels);
    for (std::size_t block = 0; block < blocks; ++block)
      REQUIRE(sums[line * blocks + block] / totals[line].sum ==
              doctest::Approx(expected[block]).epsilon(1e-4).scale(0.01));
    REQUIRE(*std::max_element(&sums[line * blocks], &sums[line * blocks] + blocks) >= 0.999F);
    REQUIRE(totals[line].sum < 0x1p80F);
  }
}

TEST_CASE("blocks that fill tiles equal the definition, also where products grow by far") {
  testing::on_every_target([] {
    for (const std::uint32_t block_vectors : {2U, 4U, 8U, 16U, 32U, 64U})
      for (const float growth : {1.0F, 20.0F, 60.0F, 0.05F})
        for (std::uint32_t seed = 0; seed < 3; ++seed) {
          CAPTURE(block_vectors);
          CAPTURE(growth);
          CAPTURE(seed);
          check_blocks_of_tiles(seed, block_vectors, growth);
        }
  });
}

// Whole blocks that lie in one tile, and what the same vectors give among others that do not.
void check_blocks_of_one_tile(std::uint32_t seed, std::uint32_t block_vectors, float size) {
  testing::random_source random(seed);
  const std::uint32_t channels = random.between(1, 20);
  const std::uint32_t blocks = random.between(1, 64 / block_vectors);
  const std::uint32_t vectors = blocks * block_vectors;
  const std::uint32_t lines = random.between(1, 19);
  score_tiles tiles(testing::all_dtypes[seed % 3], vectors, channels);
  const auto values =
      testing::stored_values(tiles.type(), random.values(std::size_t{vectors} * channels)).values_of_bytes;
  for (std::uint32_t i = 0; i < vectors; ++i)
    tiles.set(i, std::span(values).subspan(std::size_t{i} * channels, channels));
  const auto queries = random.values(std::size_t{lines} * channels, size);
  std::vector<float> sums(std::size_t{lines} * blocks);
  std::vector<softmax_total> totals(lines);
  thread_pool pool(2);
  workspace scratch;
  std::vector<softmax_blocks> items{
      {&tiles, block_vectors, queries.data(), lines, sums.data(), totals.data(), products::f32}};
  softmax_block_sums(items, scratch, pool);
  for (std::size_t line = 0; line < lines; ++line) {
    const auto expected =
        reference::softmax_shares(values, channels, block_vectors, queries.data() + line * channels);
    for (std::size_t block = 0; block < blocks; ++block)
      REQUIRE(sums[line * blocks + block] / totals[line].sum ==
              doctest::Approx(expected[block]).epsilon(1e-4).scale(0.01));
    REQUIRE(totals[line].sum >= 0.999F);
  }

  // So many products that threads share them.
  score_tiles many(dtype::bf16, 64 * 400, channels);
  std::vector<float> many_sums(std::size_t{lines} * (64 * 400 / block_vectors));
  std::vector<softmax_total> many_totals(lines);
  items.push_back(
      {&many, block_vectors, queries.data(), lines, many_sums.data(), many_totals.data(), products::f32});
  const auto alone = sums;
  const auto alone_totals = totals;
  softmax_block_sums(items, scratch, pool);
  REQUIRE(sums == alone);
  REQUIRE(totals == alone_totals);
}

TEST_CASE("blocks of one tile equal the definition, alone and among many others") {
  testing::on_every_target([] {
    for (const std::uint32_t block_vectors : {4U, 8U, 16U, 32U, 64U})
      for (const float size : {0.1F, 2.0F, 100.0F})
        for (std::uint32_t seed = 0; seed < 4; ++seed) {
          CAPTURE(block_vectors);
          CAPTURE(size);
          CAPTURE(seed);
          check_blocks_of_one_tile(seed, block_vectors, size);
        }
  });
}

TEST_CASE("narrow products are those of rounded queries") {
  thread_pool pool(2);
  workspace scratch;
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    testing::random_source random(seed);
    const std::uint32_t channels = random.between(1, 40);
    const std::uint32_t block_vectors = random.between(1, 40);
    const std::uint32_t lines = random.between(1, 21);
    const random_keys keys(random, 2000, channels);
    const auto queries = random.values(lines * channels, 2.0F);
    const dtype operand = operand_dtype(products::automatic, keys.tiles.type());
    const auto rounded = testing::stored_values(operand, queries).values_of_bytes;
    const std::uint32_t blocks = (keys.tiles.vectors() + block_vectors - 1) / block_vectors;
    std::vector<float> sums(std::size_t{lines} * blocks);
    std::vector<softmax_total> totals(lines);
    const softmax_blocks item{&keys.tiles, block_vectors, queries.data(), lines, sums.data(), totals.data()};
    softmax_block_sums({&item, 1}, scratch, pool);
    for (std::size_t line = 0; line < lines; ++line) {
      const auto expected =
          reference::softmax_shares(keys.values, channels, block_vectors, rounded.data() + line * channels);
      for (std::size_t block = 0; block < blocks; ++block)
        REQUIRE(sums[line * blocks + block] / totals[line].sum ==
                doctest::Approx(expected[block]).epsilon(1e-4).scale(0.01));
    }
  }
}

TEST_CASE("what fills the last tile counts nowhere, also where all products are far below zero") {
  testing::on_every_target([] {
    thread_pool pool(1);
    workspace scratch;
    for (const std::uint32_t vectors : {1U, 63U, 65U, 577U}) {
      CAPTURE(vectors);
      score_tiles keys(dtype::bf16, vectors, 3);
      for (std::uint32_t i = 0; i < vectors; ++i)
        keys.set(i, std::vector<float>{-16.0F, -16.0F, -8.0F});
      const std::vector<float> queries(2 * 3, 8.0F);
      std::vector<float> sums(2 * vectors);
      std::vector<softmax_total> totals(2);
      const softmax_blocks item{&keys, 1, queries.data(), 2, sums.data(), totals.data()};
      softmax_block_sums({&item, 1}, scratch, pool);
      for (const softmax_total& total : totals) {
        CHECK(total.maximum == -320.0F);
        CHECK(total.sum == doctest::Approx(vectors));
      }
      CHECK(sums == std::vector<float>(2 * vectors, 1.0F));
    }
  });
}

TEST_CASE("what fills the tile of a few whole blocks counts nowhere") {
  testing::on_every_target([] {
    thread_pool pool(1);
    workspace scratch;
    for (const std::uint32_t vectors : {8U, 40U, 64U, 72U, 584U}) {
      CAPTURE(vectors);
      score_tiles keys(dtype::bf16, vectors, 3);
      for (std::uint32_t i = 0; i < vectors; ++i)
        keys.set(i, std::vector<float>{-16.0F, -16.0F, -8.0F});
      const std::vector<float> queries(5 * 3, 8.0F);
      const std::uint32_t blocks = vectors / 8;
      std::vector<float> sums(5 * blocks);
      std::vector<softmax_total> totals(5);
      const softmax_blocks item{&keys, 8, queries.data(), 5, sums.data(), totals.data()};
      softmax_block_sums({&item, 1}, scratch, pool);
      for (const softmax_total& total : totals) {
        CHECK(total.maximum == -320.0F);
        CHECK(total.sum == doctest::Approx(vectors));
      }
      CHECK(sums == std::vector<float>(5 * blocks, 8.0F));
    }
  });
}

TEST_CASE("sums do not depend on the number of threads") {
  testing::random_source random(7);
  const random_keys keys(random, 5000, 16);
  const auto queries = random.values(6 * 16);
  const std::uint32_t blocks = (keys.tiles.vectors() + 7) / 8;
  std::vector<float> sums[2];
  std::vector<softmax_total> totals[2];
  for (unsigned i = 0; i < 2; ++i) {
    thread_pool pool(1 + 3 * i);
    workspace scratch;
    sums[i].resize(std::size_t{6} * blocks);
    totals[i].resize(6);
    const softmax_blocks item{&keys.tiles, 8, queries.data(), 6, sums[i].data(), totals[i].data()};
    softmax_block_sums({&item, 1}, scratch, pool);
  }
  CHECK(sums[0] == sums[1]);
  CHECK(totals[0] == totals[1]);
}

TEST_CASE("plain products and bounds of boxes equal their definitions") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 0; seed < 30; ++seed) {
      CAPTURE(seed);
      testing::random_source random(seed);
      const std::uint32_t channels = 2 * random.between(1, 40);
      const std::uint32_t lines = random.between(1, 13);
      const random_keys keys(random, 100, channels, corner_order::lower_first);
      const auto queries = random.values(lines * channels);
      const std::size_t vectors = keys.tiles.vectors();
      std::vector<float> products(lines * vectors);
      std::vector<float> bounds(lines * vectors);
      vector_products(keys.tiles, queries.data(), lines, products.data(), pool);
      box_bounds(keys.tiles, queries.data(), lines, bounds.data(), pool);
      for (std::size_t line = 0; line < lines; ++line)
        for (std::size_t i = 0; i < vectors; ++i) {
          const float* key = keys.values.data() + i * channels;
          REQUIRE(products[line * vectors + i] ==
                  doctest::Approx(reference::product(queries.data() + line * channels, key, channels))
                      .epsilon(1e-5)
                      .scale(10));
          REQUIRE(bounds[line * vectors + i] ==
                  doctest::Approx(reference::box_bound(queries.data() + line * channels / 2, key,
                                                       key + channels / 2, channels / 2))
                      .epsilon(1e-5)
                      .scale(10));
        }
    }
  });
}

}  // namespace
}  // namespace weft::kernels
