#include <weft/engine/sampler.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

using weft::engine::sampler;
using weft::engine::sampling;
using weft::engine::token_id;

namespace {

const std::vector<float> logits{std::log(0.1F), std::log(0.4F), std::log(0.2F), std::log(0.3F)};
constexpr int draws = 20000;

std::map<token_id, int> histogram(const sampling& options) {
  sampler choose(options);
  std::map<token_id, int> counts;
  for (int i = 0; i < draws; ++i)
    ++counts[choose.next(logits)];
  return counts;
}

double share(const std::map<token_id, int>& counts, token_id token) {
  const auto found = counts.find(token);
  return found == counts.end() ? 0 : static_cast<double>(found->second) / draws;
}

}  // namespace

TEST_CASE("greedy takes the likeliest token, the lower id of equals, and no NaN") {
  sampler greedy({});
  CHECK(greedy.next(logits) == 1);
  CHECK(greedy.next(std::vector<float>{1, 3, 3, 2}) == 1);
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(greedy.next(std::vector<float>{nan, -5, nan, -4}) == 3);
}

TEST_CASE("sampling follows the distribution") {
  const auto counts = histogram({.temperature = 1, .top_p = 1, .seed = 1});
  CHECK(share(counts, 0) == doctest::Approx(0.1).epsilon(0.1));
  CHECK(share(counts, 1) == doctest::Approx(0.4).epsilon(0.05));
  CHECK(share(counts, 2) == doctest::Approx(0.2).epsilon(0.1));
  CHECK(share(counts, 3) == doctest::Approx(0.3).epsilon(0.05));
}

TEST_CASE("temperature sharpens: at one half, weights are squared") {
  const auto counts = histogram({.temperature = 0.5F, .top_p = 1, .seed = 2});
  CHECK(share(counts, 1) == doctest::Approx(0.16 / 0.30).epsilon(0.05));
  CHECK(share(counts, 0) == doctest::Approx(0.01 / 0.30).epsilon(0.3));
}

TEST_CASE("top_p keeps the smallest set of likeliest tokens that reaches it") {
  const auto half = histogram({.temperature = 1, .top_p = 0.5F, .seed = 3});
  CHECK(half.size() == 2);
  CHECK(share(half, 1) == doctest::Approx(4.0 / 7).epsilon(0.05));
  CHECK(share(half, 3) == doctest::Approx(3.0 / 7).epsilon(0.05));
  const auto least = histogram({.temperature = 1, .top_p = 1e-6F, .seed = 4});
  CHECK(share(least, 1) == 1);
}

TEST_CASE("equal seeds give equal tokens, others do not") {
  const auto tokens = [](std::uint64_t seed) {
    sampler choose({.temperature = 1, .top_p = 0.95F, .seed = seed});
    std::vector<token_id> chosen;
    for (int i = 0; i < 64; ++i)
      chosen.push_back(choose.next(logits));
    return chosen;
  };
  CHECK(tokens(7) == tokens(7));
  CHECK(tokens(7) != tokens(8));
}
