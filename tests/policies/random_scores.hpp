// Score tables for property tests.
#pragma once

#include <weft/policies/importance.hpp>

#include <cmath>
#include <random>

namespace weft::policies::testing {

// Half of the tables have few different scores, so that ties decide; some are logarithms, below zero.
inline score_table some_scores(std::mt19937& random, std::uint32_t most_tokens = 60) {
  const auto between = [&](std::uint32_t low, std::uint32_t high) {
    return std::uniform_int_distribution<std::uint32_t>(low, high)(random);
  };
  score_table scores({.layers = between(1, 5), .kv_heads = between(1, 4), .tokens = between(1, most_tokens)});
  const std::uint32_t kind = between(0, 3);
  std::uniform_real_distribution<float> share(0.0F, 1.0F);
  for (float& score : scores.values) {
    if (kind == 0)
      score = static_cast<float>(between(0, 3));
    else if (kind == 1)
      score = between(0, 1) == 0 ? 0.0F : -0.0F;
    else
      score = kind == 2 ? share(random) : std::log(share(random) + 1e-6F);
  }
  return scores;
}

}  // namespace weft::policies::testing
