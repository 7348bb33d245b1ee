#include <weft/policies/retrieval/block_plan.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include <doctest/doctest.h>

#include <vector>

using namespace weft::policies::retrieval;
using weft::errc;

TEST_CASE("blocks are cut from each document's first token, tails belong to none") {
  const std::vector<context_document> documents{{7, 10}, {17, 3}, {20, 9}};
  const auto plan = plan_blocks(documents, {.block_tokens = 4, .init_blocks = 1, .local_blocks = 1});
  const std::vector<context_block> expected{{0, 0, 7}, {0, 4, 11}, {2, 0, 20}, {2, 4, 24}};
  CHECK(plan.blocks == expected);
  CHECK(plan.first_middle == 1);
  CHECK(plan.middle == 2);
  CHECK(plan.winners == 1);
  CHECK(plan.middle_blocks().front() == expected[1]);
}

TEST_CASE("a context with no more than the resident blocks leaves nothing to choose from") {
  const std::vector<context_document> documents{{0, 12}};
  const auto plan = plan_blocks(documents, {.block_tokens = 4, .init_blocks = 2, .local_blocks = 2});
  CHECK(plan.blocks.size() == 3);
  CHECK(plan.middle == 0);
  CHECK(plan.winners == 0);
}

TEST_CASE("the share of winners is rounded up, the ratio being a decimal") {
  CHECK(winners_of(100, 0.29) == 29);
  CHECK(winners_of(100, 0.07) == 7);
  CHECK(winners_of(30, 0.1) == 3);
  CHECK(winners_of(31, 0.1) == 4);
  CHECK(winners_of(9, 1.0) == 9);
  CHECK(winners_of(0, 0.5) == 0);
  const std::vector<context_document> documents{{0, 400}};
  CHECK(plan_blocks(documents, {.chosen = policy::full, .block_tokens = 4, .sparse_ratio = 0.1}).winners ==
        97);
}

TEST_CASE("options out of range are refused by name") {
  const auto refused = [](const options& chosen, const char* name) {
    const auto checked = check(chosen);
    REQUIRE(!checked);
    CHECK(checked.error().code == errc::invalid_argument);
    CHECK(checked.error().context.find(name) != std::string::npos);
  };
  CHECK(check({}));
  refused({.block_tokens = 0}, "block_tokens");
  refused({.sparse_ratio = 0}, "sparse_ratio");
  refused({.sparse_ratio = 1.5}, "sparse_ratio");
  refused({.stride = 0}, "stride");
  refused({.dim_ratio = 0}, "dim_ratio");
  refused({.block_tokens = 16, .token_merge = 17}, "token_merge");
}

TEST_CASE("policies have names, and an unknown one is told what there is") {
  for (const policy chosen : {policy::full, policy::kvstar, policy::esa, policy::quest, policy::kvstar_ahead})
    CHECK(policy_from_name(name_of(chosen)).value() == chosen);
  const auto unknown = policy_from_name("kvsta");
  REQUIRE(!unknown);
  CHECK(unknown.error().code == errc::unsupported);
  CHECK(unknown.error().context.find("kvstar_ahead") != std::string::npos);
}

TEST_CASE("the pairs with the largest keys are kept, low channels first") {
  // head_dim 8: pairs (0,4) (1,5) (2,6) (3,7)
  const std::vector<float> keys{1, 0, 3, 0, 0, 2,  -3, 1,  //
                                1, 0, 3, 0, 0, -5, 3,  1};
  CHECK(kept_channels(8, 0.5) == 4);
  CHECK(choose_channels(keys, 8, 4) == std::vector<std::uint32_t>{1, 2, 5, 6});
  CHECK(kept_channels(32, 0.25) == 8);
  CHECK(kept_channels(8, 0.01) == 2);
  CHECK(kept_channels(8, 1.0) == 8);
}

TEST_CASE("adjacent tokens share a vector and a position; the last one may have fewer") {
  const std::vector<float> keys{1, 10, 3, 20, 5, 30};  // three tokens, head_dim 2
  const std::vector<std::uint32_t> channels{0, 1};
  std::vector<float> merged(4);
  merge_tokens(keys, 2, channels, 2, merged);
  CHECK(merged == std::vector<float>{2, 15, 5, 30});
  CHECK(merged_vectors(3, 2) == 2);
  CHECK(merged_offset(0, 3, 2) == 0.5F);
  CHECK(merged_offset(1, 3, 2) == 2.0F);
}

TEST_CASE("a policy's own scale") {
  CHECK(usual_scale(policy::kvstar) == score_scale::none);
  CHECK(usual_scale(policy::kvstar_ahead) == score_scale::head_dim);
}
