#include <weft/kernels/top_k.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/block_scores.hpp>

#include <limits>
#include <stdexcept>
#include <vector>

namespace weft::kernels {
namespace {

std::vector<float> scores_with_ties(testing::random_source& random) {
  std::vector<float> scores = random.values(random.between(1, 300));
  for (float& score : scores) {
    if (random.coin()) score = static_cast<float>(random.between(0, 4)) - 2.0F;
    if (random.between(0, 30) == 0) score = -std::numeric_limits<float>::infinity();
    if (random.between(0, 30) == 0) score = std::numeric_limits<float>::infinity();
    if (random.between(0, 30) == 0) score = std::numeric_limits<float>::quiet_NaN();
    if (random.between(0, 30) == 0) score = -0.0F;
  }
  return scores;
}

TEST_CASE("the largest scores are found, ties by index, whatever values there are") {
  testing::on_every_target([] {
    for (std::uint32_t seed = 0; seed < 200; ++seed) {
      CAPTURE(seed);
      testing::random_source random(seed);
      const auto scores = scores_with_ties(random);
      std::vector<std::uint32_t> found(random.between(0, static_cast<std::uint32_t>(scores.size())));
      top_k(scores, found);
      CHECK(found == reference::top_k(scores, found.size()));
    }
  });
}

TEST_CASE("more than there are cannot be chosen") {
  const std::vector<float> scores{1, 2};
  std::vector<std::uint32_t> found(3);
  CHECK_THROWS_AS(top_k(scores, found), std::invalid_argument);
}

}  // namespace
}  // namespace weft::kernels
