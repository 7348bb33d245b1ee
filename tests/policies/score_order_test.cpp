#include <weft/policies/score_order.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

using namespace weft::policies;

namespace {

score_cut by_histogram(const std::vector<std::vector<float>>& lists, std::uint64_t count) {
  score_histogram all;
  for (const auto& list : lists)
    all.add(list);
  return all.cut(count);
}

score_cut found(const std::vector<std::vector<float>>& lists, std::uint64_t count) {
  const std::vector<std::span<const float>> parts(lists.begin(), lists.end());
  return cut_behind(parts, count);
}

// More than a million scores in lists of unequal length.
std::vector<std::vector<float>> many_scores(unsigned seed, int kind) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, 3.0F);
  std::vector<std::vector<float>> lists;
  for (const std::size_t rows : {600'001U, 17U, 0U, 500'000U, 99'983U}) {
    auto& list = lists.emplace_back(rows);
    for (float& score : list) {
      score = normal(engine);
      if (kind == 1) score = std::exp(score);
      if (kind == 2) score = score > 2 ? 1.0F : -0.0F;  // nearly all of them equal
      if (kind == 3 && engine() % 5 == 0) score = std::nanf("");
      if (kind == 4 && engine() % 3 == 0) score = -std::numeric_limits<float>::infinity();
    }
    if (kind == 6) std::ranges::sort(list);
    // As far apart as the rows of a sample.
    for (std::size_t i = 0; kind == 7 && i < rows; ++i)
      list[i] = static_cast<float>(i % 73) + list[i] / 100;
    // A part whose scores are unlike the others'.
    if (kind == 5 && rows == 500'000U)
      for (float& score : list)
        score += 100;
  }
  return lists;
}

}  // namespace

TEST_CASE("the cut of many rows is that of their histogram, whatever their scores are like") {
  for (int kind = 0; kind < 8; ++kind) {
    CAPTURE(kind);
    const auto lists = many_scores(static_cast<unsigned>(kind), kind);
    for (const std::uint64_t count :
         {0U, 1U, 5U, 1'000U, 120'000U, 333'333U, 600'000U, 1'100'000U, 1'199'999U, 1'200'001U, 2'000'000U}) {
      CAPTURE(count);
      CHECK(found(lists, count) == by_histogram(lists, count));
    }
  }
}

TEST_CASE("rows in an order that a sample does not see are counted all the same") {
  // Every row that the sample looks at scores high, and no other one.
  std::vector<std::vector<float>> lists(1, std::vector<float>(std::size_t{1} << 20U, 0.0F));
  for (std::size_t i = 32; i < lists[0].size(); i += 64)
    lists[0][i] = 5.0F + static_cast<float>(i % 7);
  for (const std::uint64_t count : {100U, 16'000U, 20'000U, 500'000U})
    CHECK(found(lists, count) == by_histogram(lists, count));
}
