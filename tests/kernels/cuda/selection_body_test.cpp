// The threads and warps of a selection, against sorting.
#include "cuda/selection_body.hpp"

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "reference/block_scores.hpp"
#include "reference/host_warp.hpp"

#include <limits>

namespace weft::kernels::cuda {
namespace {

std::vector<float> scores_with_ties(testing::random_source& random, std::uint32_t count) {
  std::vector<float> scores = random.values(count);
  for (float& score : scores) {
    if (random.coin()) score = static_cast<float>(random.between(0, 4)) - 2.0F;
    if (random.between(0, 30) == 0) score = -std::numeric_limits<float>::infinity();
    if (random.between(0, 30) == 0) score = std::numeric_limits<float>::infinity();
    if (random.between(0, 30) == 0) score = std::numeric_limits<float>::quiet_NaN();
    if (random.between(0, 30) == 0) score = -0.0F;
  }
  return scores;
}

// What a thread block of `warps` warps does, one thread and warp after the other.
std::vector<std::uint32_t> select(const std::vector<float>& scores, std::uint32_t wanted,
                                  std::uint32_t warps) {
  std::vector<std::uint32_t> out(wanted, 0xFFFFFFFFU);
  if (wanted == 0) return out;
  const auto count = static_cast<std::uint32_t>(scores.size());
  const reference::host_warp warp;
  key_search search{0, 0, wanted};
  for (std::uint32_t shift = 32; shift > 0;) {
    shift -= digit_bits;
    std::vector<std::uint32_t> histogram(digits, 0);
    for (std::uint32_t thread = 0; thread < warps * warp_lanes; ++thread)
      count_digits(thread, warps * warp_lanes, scores.data(), count, search, shift,
                   [&](std::uint32_t bin) { ++histogram[bin]; });
    take_digit(warp, histogram.data(), shift, search);
  }
  std::vector<segment_counts> before;
  for (std::uint32_t i = 0; i < warps; ++i)
    before.push_back(count_segment(warp, scores.data(), segment_begin(count, warps, i),
                                   segment_begin(count, warps, i + 1), search.prefix));
  add_up(before.data(), warps);
  for (std::uint32_t i = 0; i < warps; ++i)
    write_segment(warp, scores.data(), segment_begin(count, warps, i), segment_begin(count, warps, i + 1),
                  search.prefix, search.wanted, before[i],
                  [&](std::uint32_t place, std::uint32_t index) { out.at(place) = index; });
  return out;
}

TEST_CASE("a thread block selects the largest scores, ties by index, whatever values there are") {
  for (std::uint32_t seed = 0; seed < 150; ++seed) {
    CAPTURE(seed);
    testing::random_source random(seed);
    const auto scores = scores_with_ties(random, random.between(1, 2000));
    const auto wanted = random.between(0, static_cast<std::uint32_t>(scores.size()));
    REQUIRE(select(scores, wanted, random.between(1, 32)) == reference::top_k(scores, wanted));
  }
}

TEST_CASE("all scores, one score, and only equal ones") {
  testing::random_source random(1);
  const auto scores = scores_with_ties(random, 777);
  CHECK(select(scores, 777, 32) == reference::top_k(scores, 777));
  CHECK(select(scores, 1, 32) == reference::top_k(scores, 1));
  CHECK(select({3.0F}, 1, 32) == std::vector<std::uint32_t>{0});
  const std::vector<float> equal(500, std::numeric_limits<float>::quiet_NaN());
  CHECK(select(equal, 77, 4) == reference::top_k(equal, 77));
}

TEST_CASE("segments of any count cover every score once, in order") {
  for (const std::uint32_t warps : {1U, 3U, 32U, 1000U})
    for (const std::uint32_t count : {0U, 1U, 31U, 32U, 33U, 5000U, 4'000'000'000U}) {
      REQUIRE(segment_begin(count, warps, 0) == 0);
      REQUIRE(segment_begin(count, warps, warps) == count);
      for (std::uint32_t i = 0; i < warps; ++i) {
        REQUIRE(segment_begin(count, warps, i) <= segment_begin(count, warps, i + 1));
        REQUIRE(
            (segment_begin(count, warps, i) % warp_lanes == 0 || segment_begin(count, warps, i) == count));
      }
    }
}

}  // namespace
}  // namespace weft::kernels::cuda
