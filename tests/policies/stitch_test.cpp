#include <weft/policies/stitch.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

using namespace weft;
using namespace weft::policies;

namespace {

struct prompt {
  std::vector<std::int32_t> opening, question;
  std::vector<std::vector<std::int32_t>> texts;
  std::vector<prompt_document> documents;

  prompt_parts parts() const { return {opening, documents, question}; }

  // All tokens in the order of the prompt.
  std::vector<std::int32_t> tokens() const {
    std::vector<std::int32_t> all = opening;
    for (const auto& text : texts)
      all.insert(all.end(), text.begin(), text.end());
    all.insert(all.end(), question.begin(), question.end());
    return all;
  }
};

std::vector<std::int32_t> random_tokens(std::mt19937& random, std::size_t count) {
  std::vector<std::int32_t> tokens(count);
  for (auto& token : tokens)
    token = static_cast<std::int32_t>(random() % 100000);
  return tokens;
}

prompt random_prompt(std::mt19937& random) {
  prompt made;
  made.opening = random_tokens(random, random() % 4);
  made.question = random_tokens(random, 1 + random() % 9);
  const std::size_t documents = random() % 6;
  for (std::size_t i = 0; i < documents; ++i)
    made.texts.push_back(random_tokens(random, 1 + random() % 30));
  for (const auto& text : made.texts)
    made.documents.push_back({text, random() % 4 != 0});
  return made;
}

errc refusal(const prompt_parts& parts) {
  const auto plan = plan_stitch(stitch_policy::none, parts);
  return plan ? errc::ok : plan.error().code;
}

}  // namespace

TEST_CASE("documents are loaded to where they stand, opening and question are computed") {
  const std::vector<std::int32_t> opening{1}, first{10, 11, 12}, second{20, 21}, question{90, 91};
  const std::vector<prompt_document> documents{{first}, {second}};
  const auto plan = plan_stitch(stitch_policy::none, {opening, documents, question});
  REQUIRE(plan);
  REQUIRE(plan->documents.size() == 2);
  CHECK(plan->documents[0].start_position == 1);
  CHECK(plan->documents[0].segment == 1);
  CHECK(plan->documents[0].tokens == 3);
  CHECK(plan->documents[1].start_position == 4);
  CHECK(plan->documents[1].segment == 2);
  CHECK(plan->documents[1].source == document_source::load);
  CHECK(plan->rows == std::vector<planned_row>{{1, 0, 0, row_origin::opening},
                                               {90, 6, 0, row_origin::question},
                                               {91, 7, 0, row_origin::question}});
  CHECK(plan->prompt_tokens == 8);
  CHECK(plan->document_tokens == 5);
  CHECK(plan->question_rows == 2);
  CHECK(plan->recomputed_rows == 0);
  CHECK(plan->recomputed_share() == 0);
}

TEST_CASE("a document that is in no reach is computed in its own segment") {
  const std::vector<std::int32_t> first{10, 11, 12}, second{20}, question{90};
  const std::vector<prompt_document> documents{{first, false}, {second}};
  const auto plan = plan_stitch(stitch_policy::none, {{}, documents, question});
  REQUIRE(plan);
  CHECK(plan->documents[0].source == document_source::compute);
  CHECK(plan->documents[1].source == document_source::load);
  REQUIRE(plan->rows.size() == 4);
  CHECK(plan->rows[2] == planned_row{12, 2, 1, row_origin::document});
  CHECK(plan->rows[3] == planned_row{90, 4, 0, row_origin::question});
  CHECK(plan->recomputed_share() == doctest::Approx(0.75));
}

TEST_CASE("full is an ordinary causal prefill of the whole prompt") {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    const prompt made = random_prompt(random);
    const auto plan = plan_stitch(stitch_policy::full, made.parts());
    REQUIRE(plan);
    const auto tokens = made.tokens();
    REQUIRE(plan->rows.size() == tokens.size());
    REQUIRE(plan->prompt_tokens == tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      REQUIRE(plan->rows[i].token == tokens[i]);
      REQUIRE(plan->rows[i].position == static_cast<std::int32_t>(i));
      REQUIRE(plan->rows[i].segment == 0);
    }
    for (const placed_document& document : plan->documents) {
      CHECK(document.source == document_source::compute);
      CHECK(document.segment == 0);
    }
    CHECK(plan->recomputed_rows == plan->document_tokens);
    CHECK(plan->recomputed_share() == (made.documents.empty() ? 0.0 : 1.0));
  }
}

TEST_CASE("every position of a prompt is loaded or computed, exactly once") {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    const prompt made = random_prompt(random);
    const auto plan = plan_stitch(stitch_policy::none, made.parts());
    REQUIRE(plan);
    const auto tokens = made.tokens();
    REQUIRE(plan->prompt_tokens == tokens.size());
    std::vector<int> filled(tokens.size());
    std::int32_t previous = -1;
    for (const planned_row& row : plan->rows) {
      REQUIRE(row.position > previous);
      previous = row.position;
      REQUIRE(tokens[static_cast<std::size_t>(row.position)] == row.token);
      ++filled[static_cast<std::size_t>(row.position)];
    }
    for (std::size_t i = 0; i < plan->documents.size(); ++i) {
      const placed_document& placed = plan->documents[i];
      CHECK(placed.segment == static_cast<std::int32_t>(i + 1));
      CHECK((placed.source == document_source::load) == made.documents[i].stored);
      for (std::uint32_t t = 0; t < placed.tokens && made.documents[i].stored; ++t)
        ++filled[static_cast<std::size_t>(placed.start_position) + t];
    }
    CHECK(std::count(filled.begin(), filled.end(), 1) == static_cast<std::ptrdiff_t>(filled.size()));
    CHECK(plan->rows.back().position + 1 == static_cast<std::int32_t>(plan->prompt_tokens));
  }
}

TEST_CASE("a prompt that cannot be planned is refused") {
  const std::vector<std::int32_t> some{1, 2};
  const std::vector<prompt_document> empty_document{{some}, {{}}};
  CHECK(refusal({some, {}, {}}) == errc::invalid_argument);
  CHECK(refusal({some, empty_document, some}) == errc::invalid_argument);
  CHECK(refusal({{}, {}, some}) == errc::ok);
  // Lengths only: the plan must be refused before a token is looked at.
  const std::vector<prompt_document> endless(3, {std::span{some.data(), std::size_t{1} << 30}, true});
  CHECK(refusal({{}, endless, some}) == errc::invalid_argument);
}

TEST_CASE("policies are found by name, others are refused with the list of what there is") {
  for (const stitch_policy policy : {stitch_policy::none, stitch_policy::full}) {
    const auto found = stitch_policy_from_name(name_of(policy));
    REQUIRE(found);
    CHECK(*found == policy);
  }
  for (const char* name : {"", "None", "link", "epic", "blend", "full "}) {
    const auto refused = stitch_policy_from_name(name);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::unsupported);
    CHECK(refused.error().context.find("supported: none, full") != std::string::npos);
  }
}
