#include <weft/policies/retrieval/block_ranker.hpp>

#include <doctest/doctest.h>

#include "random_context.hpp"

using namespace weft::policies::retrieval;
using test::random_context;
namespace kernels = weft::kernels;

namespace {

const ranked_shape small{
    .layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 12, .type = kernels::dtype::f32};

options with(policy chosen) {
  return {.chosen = chosen,
          .block_tokens = 5,
          .init_blocks = 1,
          .local_blocks = 1,
          .sparse_ratio = 0.4,
          .stride = 3,
          .dim_ratio = 0.5,
          .token_merge = 2};
}

std::vector<float> scores_of(std::span<const shard_scores> shards, std::size_t blocks) {
  std::vector<float> scores(blocks, -1.0F);
  merge_shards(shards, scores);
  return scores;
}

shard_scores scored(const random_context& context, std::vector<std::uint32_t> held, std::uint32_t layer,
                    const query_group& group) {
  kernels::thread_pool pool(2);
  shard_scores out;
  context.ranker(std::move(held))->score(layer, group, out, pool);
  return out;
}

}  // namespace

TEST_CASE("kvstar scores blocks of several documents as its definition says") {
  for (std::uint32_t seed = 0; seed < 5; ++seed) {
    CAPTURE(seed);
    random_context context(seed, with(policy::kvstar), small, {23, 4, 41, 10});
    const auto queries = context.values(std::size_t{3} * 4 * 12);
    const query_group group{queries.data(), 3, 4 * 12};
    for (std::uint32_t layer = 0; layer < small.layers; ++layer) {
      const shard_scores all[] = {scored(context, context.every_block(), layer, group)};
      const auto scores = scores_of(all, context.plan().middle);
      const auto expected = context.kvstar_scores(layer, queries, 3);
      for (std::size_t i = 0; i < expected.size(); ++i)
        CHECK(scores[i] == doctest::Approx(expected[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("a scale divides the products before the softmax") {
  auto chosen = with(policy::kvstar);
  random_context plain(1, chosen, small, {60});
  auto queries = plain.values(4 * 12);
  const auto at_scale = [&](score_scale scale) {
    chosen.scale = scale;
    random_context context(1, chosen, small, {60});
    const shard_scores all[] = {scored(context, context.every_block(), 0, {queries.data(), 1, 48})};
    return scores_of(all, context.plan().middle);
  };
  const auto by_head = at_scale(score_scale::head_dim);
  const auto by_kept = at_scale(score_scale::kept_dim);
  const auto expect = [&](const std::vector<float>& found, double divisor) {
    std::vector<float> divided = queries;
    for (float& value : divided)
      value = static_cast<float>(value / divisor);
    const auto expected = plain.kvstar_scores(0, divided, 1);
    for (std::size_t i = 0; i < expected.size(); ++i)
      CHECK(found[i] == doctest::Approx(expected[i]).epsilon(1e-4));
  };
  expect(by_head, std::sqrt(12.0));
  expect(by_kept, std::sqrt(6.0));
}

TEST_CASE("one, two and three places score like one, whatever the policy") {
  for (const policy chosen : {policy::full, policy::kvstar, policy::esa, policy::quest, policy::kvstar_ahead})
    for (std::uint32_t seed = 0; seed < 10; ++seed) {
      CAPTURE(std::string{name_of(chosen)});
      CAPTURE(seed);
      random_context context(seed, with(chosen), small, {31, 50, 17});
      const auto queries = context.values(std::size_t{3} * 4 * 12);
      const query_group group{queries.data(), 3, 4 * 12};
      const shard_scores whole[] = {scored(context, context.every_block(), 1, group)};
      const auto expected = scores_of(whole, context.plan().middle);
      for (std::uint32_t places = 2; places <= 3; ++places) {
        std::vector<std::vector<std::uint32_t>> held(places);
        for (const std::uint32_t block : context.every_block())
          held[(block * 7 + seed) % places].push_back(block);
        std::vector<shard_scores> shards;
        for (auto& blocks : held)
          shards.push_back(scored(context, blocks, 1, group));
        const auto merged = scores_of(shards, context.plan().middle);
        for (std::size_t i = 0; i < expected.size(); ++i)
          CHECK(merged[i] == doctest::Approx(expected[i]).epsilon(1e-5));
      }
    }
}

TEST_CASE("blocks of a place that does not answer keep the scores that they had") {
  random_context context(4, with(policy::kvstar), small, {80});
  const auto queries = context.values(4 * 12);
  const shard_scores one[] = {scored(context, {0, 2, 3}, 0, {queries.data(), 1, 48})};
  std::vector<float> scores(context.plan().middle, 0.125F);
  merge_shards(one, scores);
  CHECK(scores[1] == 0.125F);
  CHECK(scores[0] + scores[2] + scores[3] == doctest::Approx(4.0));
}

TEST_CASE("esa multiplies the newest query with a block's mean key") {
  random_context context(2, with(policy::esa), small, {33, 30});
  const auto queries = context.values(std::size_t{2} * 4 * 12);
  const shard_scores all[] = {scored(context, context.every_block(), 1, {queries.data(), 2, 48})};
  const auto scores = scores_of(all, context.plan().middle);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    double expected = 0;
    for (std::uint32_t q = 0; q < 4; ++q)
      for (std::uint32_t token = 0; token < 5; ++token) {
        const auto key = context.rotated_key(1, q / 2, context.plan().middle_blocks()[i], token);
        for (std::size_t d = 0; d < 12; ++d)
          expected += queries[48 + q * 12 + d] * key[d] / 5;
      }
    CHECK(scores[i] == doctest::Approx(expected).epsilon(1e-4));
  }
}

TEST_CASE("quest's bound is above the product with every key of the block, and tight for one key") {
  auto chosen = with(policy::quest);
  for (const std::uint32_t block_tokens : {5U, 1U}) {
    chosen.block_tokens = block_tokens;
    chosen.token_merge = 1;
    random_context context(3, chosen, small, {40});
    const auto queries = context.values(4 * 12);
    const shard_scores all[] = {scored(context, context.every_block(), 0, {queries.data(), 1, 48})};
    const auto scores = scores_of(all, context.plan().middle);
    for (std::size_t i = 0; i < scores.size(); ++i)
      for (std::uint32_t token = 0; token < block_tokens; ++token) {
        double product = 0;
        for (std::uint32_t q = 0; q < 4; ++q) {
          const auto key = context.rotated_key(0, q / 2, context.plan().middle_blocks()[i], token);
          for (std::size_t d = 0; d < 12; ++d)
            product += queries[q * 12 + d] * key[d];
        }
        CHECK(scores[i] >= product - 1e-4);
        if (block_tokens == 1) CHECK(scores[i] == doctest::Approx(product).epsilon(1e-4).scale(1));
      }
  }
}
