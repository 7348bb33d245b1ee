#include <weft/policies/bands.hpp>
#include <weft/policies/budget.hpp>

#include <doctest/doctest.h>

#include "random_scores.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

using namespace weft;
using namespace weft::policies;

namespace {

std::vector<decimal_ratio> ratios_of(const std::vector<double>& values) {
  std::vector<decimal_ratio> ratios;
  for (const double value : values)
    ratios.push_back(decimal_ratio::from(value).value());
  return ratios;
}

}  // namespace

TEST_CASE("bands up to a ratio are what the global budget keeps there") {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const score_table scores = testing::some_scores(random);
    const auto protected_rows = static_cast<std::uint32_t>(random() % 3) % (scores.shape.tokens + 1);
    const auto bands = cut_bands(scores, default_band_ratios(), protected_rows);
    REQUIRE(bands);
    for (std::size_t k = 0; k < bands->ratios.size(); ++k) {
      const auto kept = keep_rows(scores, {.ratio = bands->ratios[k], .protected_rows = protected_rows});
      REQUIRE(kept);
      std::vector<std::uint8_t> upto(scores.shape.rows());
      for (std::size_t i = 0; i < upto.size(); ++i)
        upto[i] = bands->band[i] <= k ? 1 : 0;
      CHECK(upto == kept->kept);
      CHECK(bands->rows[k] == kept->count());
    }
  }
}

TEST_CASE("bands of scores that tie, or are no numbers, are the rows that each ratio adds") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::array<float, 9> values{0.0F,      -0.0F, std::nanf(""), infinity,
                                    -infinity, 1.0F,  1.001F,        std::numeric_limits<float>::denorm_min(),
                                    -3.0F};
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    score_table scores({.layers = 1 + static_cast<std::uint32_t>(random() % 4),
                        .kv_heads = 1 + static_cast<std::uint32_t>(random() % 3),
                        .tokens = static_cast<std::uint32_t>(random() % 40)});
    const std::size_t kinds = 1 + random() % values.size();
    const std::size_t first_kind = random() % values.size();
    for (float& score : scores.values)
      score = values[(first_kind + random() % kinds) % values.size()];
    const auto protected_rows = static_cast<std::uint32_t>(random() % 3) % (scores.shape.tokens + 1);
    const auto ratios = ratios_of(seed % 2 == 0 ? std::vector{0.0, 0.01, 0.5, 0.51, 0.9}
                                                : std::vector{0.2, 0.21, 0.22, 0.7, 1.0});
    const auto bands = cut_bands(scores, ratios, protected_rows);
    REQUIRE(bands);
    std::vector<std::uint8_t> expected(scores.shape.rows(), banded_rows::no_band);
    float before = 0;
    for (std::size_t k = 0; k < ratios.size(); ++k) {
      const auto kept = keep_rows(scores, {.ratio = ratios[k], .protected_rows = protected_rows});
      REQUIRE(kept);
      float least = infinity;
      for (std::size_t row = 0; row < expected.size(); ++row)
        if (kept->kept[row] != 0 && expected[row] == banded_rows::no_band) {
          expected[row] = static_cast<std::uint8_t>(k);
          least = std::min(least, scores.values[row]);
        }
      if (least < infinity) before = least;
      CHECK(bands->rows[k] == kept->count());
      CHECK(std::bit_cast<std::uint32_t>(bands->least_score[k]) == std::bit_cast<std::uint32_t>(before));
    }
    CHECK(bands->band == expected);
  }
}

TEST_CASE("bands end where they are wanted, and where the kept rows do") {
  CHECK(band_ratios({}, decimal_ratio{}).value() == ratios_of({0.1, 0.2, 0.3, 0.5, 0.7, 1}));
  CHECK(band_ratios({}, decimal_ratio::from(0.3).value()).value() == ratios_of({0.1, 0.2, 0.3}));
  CHECK(band_ratios({}, decimal_ratio::from(0.25).value()).value() == ratios_of({0.1, 0.2, 0.25}));
  CHECK(band_ratios(ratios_of({0.4}), decimal_ratio{}).value() == ratios_of({0.4, 1}));
  CHECK(!band_ratios(ratios_of({0.4, 0.2}), decimal_ratio{}));
}

TEST_CASE("the first bands of a document take their share of its bytes, on the wire and in memory") {
  // The heads of a model of 8 billion parameters, some of its layers; scores that favour some heads.
  const block::shape whole{.layers = 4, .kv_heads = 8, .head_dim = 128, .tokens = 64};
  score_table scores = random_scores({whole.layers, whole.kv_heads, 1024}, 5);
  for (std::size_t head = 0; head < scores.shape.heads(); ++head)
    for (float& score : scores.head(head))
      score = score * static_cast<float>(1 + head % 5);
  const auto bands = cut_bands(scores, default_band_ratios());
  REQUIRE(bands);
  std::size_t upto_0_3 = 0, tables = 0, all = 0;
  for (std::uint32_t first = 0; first < scores.shape.tokens; first += whole.tokens) {
    auto banded = block_bands(*bands, first, whole.tokens);
    banded.resize(3);
    upto_0_3 += block::size_bytes(whole, banded);
    tables += block::size_bytes(
        whole, std::vector<block::band_rows>(3, {std::vector<std::uint16_t>(scores.shape.heads(), 0), {}}));
    all += block::size_bytes(whole, std::array{block::all_rows(whole)});
  }
  CHECK(static_cast<double>(upto_0_3 - tables) <= 0.31 * static_cast<double>(all));
  CHECK(static_cast<double>(tables) < 0.002 * static_cast<double>(all));
}

TEST_CASE("a document's blocks hold every row of it once, in its band") {
  std::mt19937 random(3);
  const score_table scores = testing::some_scores(random, 100);
  const auto bands = cut_bands(scores, default_band_ratios());
  REQUIRE(bands);
  constexpr std::uint32_t block_tokens = 16;
  std::vector<std::uint8_t> found(scores.shape.rows(), banded_rows::no_band);
  for (std::uint32_t first = 0; first < scores.shape.tokens; first += block_tokens) {
    const std::uint32_t tokens = std::min(block_tokens, scores.shape.tokens - first);
    const auto cut = block_bands(*bands, first, tokens);
    REQUIRE(cut.size() == 6);
    for (std::size_t band = 0; band < cut.size(); ++band) {
      std::size_t next = 0;
      for (std::size_t head = 0; head < scores.shape.heads(); ++head)
        for (std::uint16_t row = 0; row < cut[band].counts[head]; ++row) {
          const std::uint16_t position = cut[band].positions[next++];
          CHECK(position < tokens);
          if (row > 0) CHECK(cut[band].positions[next - 2] < position);
          found[head * scores.shape.tokens + first + position] = static_cast<std::uint8_t>(band);
        }
      CHECK(next == cut[band].positions.size());
    }
  }
  CHECK(found == bands->band);
}

TEST_CASE("bands may end before the last row") {
  const score_table scores = recency_scores({.layers = 1, .kv_heads = 1, .tokens = 10});
  const auto bands = cut_bands(scores, ratios_of({0.2, 0.5}));
  REQUIRE(bands);
  CHECK(bands->rows == std::vector<std::uint64_t>{2, 5});
  CHECK(bands->band == std::vector<std::uint8_t>{0, 0, 1, 1, 255, 255, 255, 255, 255, 1});
  CHECK(bands->least_score == std::vector<float>{2.0F, 1.0F});
}

TEST_CASE("ratios of bands ascend") {
  const score_table scores({.layers = 1, .kv_heads = 1, .tokens = 4});
  CHECK(!cut_bands(scores, ratios_of({0.5, 0.5})));
  CHECK(!cut_bands(scores, ratios_of({0.5, 0.2})));
  CHECK(!cut_bands(scores, {}));
  CHECK(!cut_bands(scores, std::vector<decimal_ratio>(17)));
  CHECK(!cut_bands(scores, default_band_ratios(), 5));
}
