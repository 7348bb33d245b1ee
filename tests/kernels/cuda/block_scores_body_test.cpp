// The threads that score blocks, one after the other, against the definitions.
#include "cuda/block_scores_body.hpp"

#include <weft/kernels/block_scores.hpp>
#include <weft/kernels/cuda/score_plan.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "reference/block_scores.hpp"

#include <cmath>
#include <stdexcept>

namespace weft::kernels::cuda {
namespace {

// As block_scores.hpp describes them, which needs CUDA's headers.
struct vectors_like_device {
  const std::byte* tiles;
  dtype type;
  std::uint32_t vectors, channels;
};

struct blocks_like_device {
  vectors_like_device keys;
  std::uint32_t block_vectors;
  const float* queries;
  std::uint32_t lines;
  float* sums;
  softmax_total* totals;
};

struct scores_like_device {
  vectors_like_device vectors;
  const float* queries;
  std::uint32_t lines;
  float* out;
};

struct random_vectors {
  random_vectors(testing::random_source& random, dtype type, std::uint32_t vectors, std::uint32_t channels)
      : tiles(type, vectors, channels) {
    const testing::stored_values stored(type, random.values(std::size_t{vectors} * channels));
    values = stored.values_of_bytes;
    for (std::uint32_t i = 0; i < vectors; ++i)
      tiles.set(i, std::span(values).subspan(std::size_t{i} * channels, channels));
  }
  vectors_like_device view() const {
    return {tiles.vectors() > 0 ? tiles.tile(0) : nullptr, tiles.type(), tiles.vectors(), tiles.channels()};
  }

  score_tiles tiles;
  std::vector<float> values;  // [vector][channel]
};

// What the kernels of softmax_block_sums do.
void run(const score_plan& plan, const std::vector<blocks_like_device>& items) {
  std::vector<float> scratch(plan.scratch_bytes() / sizeof(float), NAN);
  for (const score_task& task : plan.tasks()) {
    std::vector<float> memory(plan.shared_bytes() / sizeof(float), NAN);
    const piece_sums<blocks_like_device> piece(items[task.item], task, memory.data());
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      piece.stage(thread);
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      piece.multiply(thread);
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      piece.find_maxima(thread);
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      piece.sum(thread, scratch.data() + plan.first_maximum()[task.item]);
  }
  for (const score_task& task : plan.lines()) {
    std::vector<float> memory(2 * score_threads, NAN);
    const joined_line<blocks_like_device> line(
        items[task.item], task.first_line, scratch.data() + plan.first_maximum()[task.item], memory.data());
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      line.find_maximum(thread);
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      line.scale(thread);
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      line.total(thread);
  }
}

TEST_CASE("a block's share in the softmax equals its definition, however it is cut into pieces") {
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    testing::random_source random(seed);
    const std::uint32_t channels = random.between(1, 40);
    const std::uint32_t block_vectors = seed % 5 == 0 ? random.between(500, 1024) : random.between(1, 40);
    const std::uint32_t lines = random.between(1, 21);
    const dtype type = testing::all_dtypes[seed % 3];
    const random_vectors keys[] = {{random, type, random.between(1, 2500), channels},
                                   {random, type, random.between(1, 50), channels}};
    const auto queries = random.values(2 * lines * channels, 2.0F);
    std::vector<blocks_like_device> items;
    std::vector<score_shape> shapes;
    std::vector<float> sums[2];
    std::vector<softmax_total> totals[2];
    for (std::size_t i = 0; i < 2; ++i) {
      sums[i].assign(std::size_t{lines} * blocks_of(keys[i].tiles.vectors(), block_vectors), NAN);
      totals[i].resize(lines);
      items.push_back({keys[i].view(), block_vectors, queries.data() + i * lines * channels, lines,
                       sums[i].data(), totals[i].data()});
      shapes.push_back({keys[i].tiles.vectors(), channels, block_vectors, lines});
    }
    score_plan plan;
    plan.assign(shapes);
    run(plan, items);
    for (std::size_t i = 0; i < 2; ++i)
      for (std::size_t line = 0; line < lines; ++line) {
        const auto expected = reference::softmax_shares(keys[i].values, channels, block_vectors,
                                                        items[i].queries + line * channels);
        for (std::size_t block = 0; block < expected.size(); ++block)
          REQUIRE(sums[i][line * expected.size() + block] / totals[i][line].sum ==
                  doctest::Approx(expected[block]).epsilon(1e-4).scale(0.01));
      }
  }
}

TEST_CASE("sums are those of the CPU's kernel, over another base") {
  testing::random_source random(3);
  const random_vectors keys(random, dtype::f32, 1777, 24);
  const auto queries = random.values(9 * 24);
  const std::uint32_t blocks = blocks_of(1777, 8);
  std::vector<float> sums(9 * blocks), expected(9 * blocks);
  std::vector<softmax_total> totals(9), expected_totals(9);
  const weft::kernels::softmax_blocks item{
      &keys.tiles, 8, queries.data(), 9, expected.data(), expected_totals.data(), products::f32};
  thread_pool pool(1);
  workspace scratch;
  softmax_block_sums({&item, 1}, scratch, pool);
  score_plan plan;
  plan.assign(std::vector<score_shape>{{1777, 24, 8, 9}});
  run(plan, {{keys.view(), 8, queries.data(), 9, sums.data(), totals.data()}});
  for (std::size_t line = 0; line < 9; ++line) {
    const float factor = std::exp2(totals[line].maximum - expected_totals[line].maximum);
    CHECK(totals[line].sum * factor == doctest::Approx(expected_totals[line].sum).epsilon(1e-4));
    for (std::size_t i = line * blocks; i < (line + 1) * blocks; ++i)
      REQUIRE(sums[i] * factor == doctest::Approx(expected[i]).epsilon(1e-3).scale(0.01));
  }
}

TEST_CASE("no vectors have no sum") {
  score_plan plan;
  plan.assign(std::vector<score_shape>{{0, 8, 4, 3}});
  CHECK(plan.tasks().empty());
  const std::vector<float> queries(24, 1.0F);
  std::vector<softmax_total> totals(3, {7.0F, 7.0F});
  run(plan, {{{nullptr, dtype::f32, 0, 8}, 4, queries.data(), 3, nullptr, totals.data()}});
  for (const auto& total : totals)
    CHECK(total == softmax_total{});
}

TEST_CASE("a plan refuses shapes that no thread block has room for") {
  score_plan plan;
  CHECK_THROWS_AS(plan.assign(std::vector<score_shape>{{10, 0, 1, 1}}), std::invalid_argument);
  CHECK_THROWS_AS(plan.assign(std::vector<score_shape>{{10, 257, 1, 1}}), std::invalid_argument);
  CHECK_THROWS_AS(plan.assign(std::vector<score_shape>{{10, 8, 0, 1}}), std::invalid_argument);
  CHECK_THROWS_AS(plan.assign(std::vector<score_shape>{{10, 8, 1025, 1}}), std::invalid_argument);
  plan.assign(std::vector<score_shape>{{100'000, 256, 1024, 8}});
  CHECK(plan.shared_bytes() <= 48 * 1024);
}

template <bool Boxes>
std::vector<float> scores_of(const scores_like_device& item) {
  const std::uint32_t channels = Boxes ? item.vectors.channels / 2 : item.vectors.channels;
  for (std::uint32_t line = 0; line < item.lines; line += lines_together) {
    std::vector<float> staged(staged_floats(channels), NAN);
    for (std::uint32_t thread = 0; thread < score_threads; ++thread)
      stage_queries(thread, score_threads, item.queries, item.lines, channels, line, staged.data());
    for (std::uint32_t vector = 0; vector < item.vectors.vectors; ++vector)
      score_vector<Boxes>(item, vector, line, staged.data());
  }
  return {item.out, item.out + std::size_t{item.lines} * item.vectors.vectors};
}

TEST_CASE("products and Quest's bounds equal their definitions") {
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    testing::random_source random(seed);
    const std::uint32_t channels = random.between(1, 90);
    const std::uint32_t lines = random.between(1, 19);
    const std::uint32_t vectors = random.between(1, 200);
    const dtype type = testing::all_dtypes[seed % 3];
    const random_vectors keys(random, type, vectors, channels);
    const random_vectors boxes(random, type, vectors, 2 * channels);
    const auto queries = random.values(std::size_t{lines} * channels);
    std::vector<float> out(std::size_t{lines} * vectors, NAN);
    const auto products = scores_of<false>({keys.view(), queries.data(), lines, out.data()});
    const auto bounds = scores_of<true>({boxes.view(), queries.data(), lines, out.data()});
    for (std::size_t line = 0; line < lines; ++line)
      for (std::size_t v = 0; v < vectors; ++v) {
        const float* const q = queries.data() + line * channels;
        REQUIRE(products[line * vectors + v] ==
                doctest::Approx(reference::product(q, keys.values.data() + v * channels, channels))
                    .epsilon(1e-5)
                    .scale(10));
        // A corner's own channels: the bound is what the query's signs choose, in whatever order they are.
        double bound = 0;
        const float* const low = boxes.values.data() + v * 2 * channels;
        for (std::size_t c = 0; c < channels; ++c)
          bound += double{q[c]} * (q[c] > 0 ? low[channels + c] : low[c]);
        REQUIRE(bounds[line * vectors + v] == doctest::Approx(bound).epsilon(1e-5).scale(10));
      }
  }
}

}  // namespace
}  // namespace weft::kernels::cuda
