#include <weft/policies/importance.hpp>

#include <doctest/doctest.h>

#include <set>

using namespace weft;
using namespace weft::policies;

TEST_CASE("importance policies are found by their names") {
  std::set<std::string_view> names;
  for (const importance_policy policy : all_importance_policies()) {
    CHECK(importance_policy_from_name(name_of(policy)).value() == policy);
    names.insert(name_of(policy));
  }
  CHECK(names.size() == 12);
  const auto unknown = importance_policy_from_name("kvzipp");
  REQUIRE(!unknown);
  CHECK(unknown.error().code == errc::unsupported);
  CHECK(unknown.error().context.find("kvzipp") != std::string::npos);
  CHECK(unknown.error().context.find("kvzip_plus") != std::string::npos);
}

TEST_CASE("recency: the sinks first, then the latest") {
  const score_table scores = recency_scores({.layers = 2, .kv_heads = 1, .tokens = 8});
  for (std::size_t head = 0; head < 2; ++head) {
    const auto row = scores.head(head);
    for (std::size_t i = 0; i < 4; ++i)
      CHECK(row[i] > row[7]);
    for (std::size_t i = 5; i < 8; ++i)
      CHECK(row[i] > row[i - 1]);
  }
}

// The first outputs of the published generator for seed 1234567.
TEST_CASE("noise is SplitMix64's upper 24 bits") {
  const score_table scores = random_scores({.layers = 1, .kv_heads = 1, .tokens = 3}, 1234567);
  constexpr std::uint64_t outputs[] = {6457827717110365317U, 3203168211198807973U, 9817491932198370423U};
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(scores.values[i] == static_cast<float>(static_cast<double>(outputs[i] >> 40U) / 16777216.0));
  CHECK(random_scores({1, 1, 3}, 1).values != random_scores({1, 1, 3}, 2).values);
}

TEST_CASE("a maximum over neighbours ends at the borders") {
  const std::vector<float> in{5, 1, 2, 0, 3};
  std::vector<float> out(5);
  max_pool(in, 3, out);
  CHECK(out == std::vector<float>{5, 5, 2, 3, 3});
  max_pool(in, 7, out);
  CHECK(out == std::vector<float>{5, 5, 5, 5, 3});
}

TEST_CASE("a head is worth its best row") {
  score_table scores({.layers = 1, .kv_heads = 2, .tokens = 2});
  scores.values = {-3, -1, 4, 2};
  CHECK(head_scores_of(scores) == std::vector<float>{-1, 4});
}
