#include <weft/policies/retrieval/document_ranking.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using namespace weft;
using namespace weft::policies::retrieval;

namespace {

std::vector<float> noise(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values)
    value = normal(random);
  return values;
}

}  // namespace

TEST_CASE("a document is worth its best product of each line") {
  constexpr std::uint32_t head_dim = 12, query_heads = 6, rows = 3;
  kernels::thread_pool pool(2);
  for (const std::uint32_t kv_heads : {1U, 3U})
    for (const std::uint32_t tokens : {1U, 63U, 130U})
      for (const double ratio : {0.5, 1.0}) {
        const auto channels = kept_channels(head_dim, ratio);
        document_keys keys({.kv_heads = kv_heads,
                            .head_dim = head_dim,
                            .vectors = tokens,
                            .channels = channels,
                            .type = kernels::dtype::f32});
        std::vector<reduced_head> reduced;
        for (std::uint32_t head = 0; head < kv_heads; ++head) {
          reduced.push_back(
              reduce_head(noise(std::size_t{tokens} * head_dim, head + tokens), head_dim, channels, 1));
          keys.set(head, reduced.back().channels, reduced.back().vectors);
        }
        const auto queries = noise(std::size_t{rows} * query_heads * head_dim, 99);
        std::vector<float> best(rows * query_heads);
        keys.best_products(queries, query_heads, best, pool);
        for (std::uint32_t line = 0; line < rows * query_heads; ++line) {
          const auto& of_head = reduced[line % query_heads / (query_heads / kv_heads)];
          float expected = -1e30F;
          for (std::uint32_t token = 0; token < tokens; ++token) {
            float product = 0;
            for (std::uint32_t c = 0; c < channels; ++c)
              product += queries[std::size_t{line} * head_dim + of_head.channels[c]] *
                         of_head.vectors[std::size_t{token} * channels + c];
            expected = std::max(expected, product);
          }
          CHECK(best[line] == doctest::Approx(expected).epsilon(1e-4));
        }
      }
}

TEST_CASE("whole keys are the keys themselves, merged ones their means") {
  const auto keys = noise(5 * 8, 3);
  const auto whole = reduce_head(keys, 8, 8, 1);
  CHECK(whole.vectors == keys);
  const auto merged = reduce_head(keys, 8, 8, 2);
  REQUIRE(merged.vectors.size() == 3 * 8);
  CHECK(merged.vectors[3] == doctest::Approx((keys[3] + keys[11]) / 2));
  CHECK(merged.vectors[16 + 3] == doctest::Approx(keys[32 + 3]));
}

TEST_CASE("a line that fits all documents alike decides nothing; scale and offset of a line do not matter") {
  // [document][line]: the second line is the same for all.
  const std::vector<float> best{1, 7, 3, 7, 2, 7, 2, 7};
  const auto scores = document_scores(best, 2);
  REQUIRE(scores.size() == 4);
  CHECK(scores[0] == 0);
  CHECK(scores[1] == doctest::Approx(2));  // one above the mean, of a variance of a half
  CHECK(scores[2] == 0);
  std::vector<float> moved = best;
  for (std::size_t i = 0; i < moved.size(); i += 2)
    moved[i] = 100 * moved[i] - 5;
  const auto same = document_scores(moved, 2);
  for (std::size_t i = 0; i < scores.size(); ++i)
    CHECK(same[i] == doctest::Approx(scores[i]));
  CHECK(document_scores(std::vector<float>{4, 5}, 2) == std::vector<float>{0});
  CHECK(document_scores({}, 2).empty());
}

TEST_CASE("the best documents come first, of equal ones the earlier") {
  const std::vector<float> scores{1, 3, 3, 0};
  CHECK(best_documents(scores, 3) == std::vector<std::size_t>{1, 2, 0});
  CHECK(best_documents(scores, 9).size() == 4);
  CHECK(best_documents({}, 2).empty());
}

TEST_CASE("what ranks: the question's last tokens and what stands behind them") {
  const document_ranking how;
  CHECK(ranking_rows(how, 20, 1) == 4);
  CHECK(ranking_rows(how, 3, 2) == 3);
  CHECK(ranking_layer(how, 16) == 1);
  CHECK(ranking_layer(how, 1) == 0);
}
