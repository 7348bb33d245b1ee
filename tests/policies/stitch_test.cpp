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

  std::vector<std::vector<std::int32_t>> inserted;  // nothing, or a list behind every document

  prompt_parts parts() const {
    return {.opening = opening, .documents = documents, .question = question, .inserted = inserted};
  }

  // All tokens in the order of the prompt.
  std::vector<std::int32_t> tokens() const {
    std::vector<std::int32_t> all = opening;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      all.insert(all.end(), texts[i].begin(), texts[i].end());
      if (!inserted.empty()) all.insert(all.end(), inserted[i].begin(), inserted[i].end());
    }
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
  if (random() % 2 == 0)
    for (std::size_t i = 0; i < documents; ++i)
      made.inserted.push_back(random_tokens(random, random() % 4));
  return made;
}

// One policy of every kind, `link` with as many links as the prompt has: none of a fixed number.
stitch_policy random_policy(std::mt19937& random) {
  const auto share = static_cast<std::uint32_t>(random() % 1'000'001);
  switch (random() % 5) {
    case 0:
      return stitch_policy::none;
    case 1:
      return stitch_policy::epic(random() % 40);
    case 2:
      return stitch_policy::blend(share, random() % 3);
    case 3:
      return stitch_policy::random(share, random());
    default:
      return stitch_policy::full;
  }
}

stitch_plan planned(const stitch_policy& policy, const prompt_parts& parts) {
  auto plan = plan_stitch(policy, parts);
  REQUIRE_MESSAGE(plan.has_value(), plan.error().context);
  return std::move(*plan);
}

std::vector<std::int32_t> positions_of(const stitch_plan& plan, row_origin origin) {
  std::vector<std::int32_t> positions;
  for (const planned_row& row : plan.rows)
    if (row.origin == origin) positions.push_back(row.position);
  return positions;
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
  CHECK(plan->recomputed_share(4) == 0);
}

TEST_CASE("texts are computed where they stand: before, between and behind documents, behind their links") {
  const std::vector<std::int32_t> opening{1}, first{10, 11, 12}, second{20, 21}, question{90};
  const std::vector<prompt_document> documents{{first}, {second}};
  const std::vector<std::vector<std::int32_t>> links{{70}, {71}}, texts{{50}, {51, 52}, {53}};
  const prompt_parts parts{
      .opening = opening, .documents = documents, .question = question, .inserted = links, .texts = texts};
  for (const auto& policy : {stitch_policy::none, stitch_policy::link(1)}) {
    const auto plan = planned(policy, parts);
    CHECK(plan.documents[0].start_position == 2);
    CHECK(plan.documents[1].start_position == 8);
    CHECK(plan.documents[1].segment == 2);
    CHECK(plan.rows == std::vector<planned_row>{{1, 0, 0, row_origin::opening},
                                                {50, 1, 0, row_origin::text},
                                                {70, 5, 0, row_origin::inserted},
                                                {51, 6, 0, row_origin::text},
                                                {52, 7, 0, row_origin::text},
                                                {71, 10, 0, row_origin::inserted},
                                                {53, 11, 0, row_origin::text},
                                                {90, 12, 0, row_origin::question}});
    CHECK(plan.prompt_tokens == 13);
    CHECK(plan.document_tokens == 5);
    CHECK(plan.question_rows == 1);
    CHECK(plan.recomputed_rows == 0);
  }
  // A text is no document's row, however many of those a policy computes.
  for (const auto& policy : {stitch_policy::epic(2), stitch_policy::random(500'000), stitch_policy::full,
                             stitch_policy::blend(400'000)}) {
    CAPTURE(name_of(policy));
    const auto plan = planned(policy, parts);
    CHECK(positions_of(plan, row_origin::text) == std::vector<std::int32_t>{1, 6, 7, 11});
    CHECK(plan.prompt_tokens == 13);
    if (plan.selector) CHECK(plan.selector->rows == 2);
  }
  auto wrong = parts;
  wrong.texts = std::span(texts).first(2);
  CHECK(refusal(wrong) == errc::invalid_argument);
}

TEST_CASE("a text alone is context enough, and the first document behind one is not the prompt's begin") {
  const std::vector<std::int32_t> document{10, 11, 12}, question{90};
  const std::vector<std::vector<std::int32_t>> alone{{50, 51}}, before{{50}, {}}, behind{{}, {50}};
  const auto plan =
      planned(stitch_policy::none, {.opening = {}, .documents = {}, .question = question, .texts = alone});
  CHECK(plan.rows.size() == 3);
  CHECK(plan.prompt_tokens == 3);
  const std::vector<prompt_document> documents{{document}};
  const auto epic_rows = [&](const std::vector<std::vector<std::int32_t>>& texts) {
    return positions_of(
        planned(stitch_policy::epic(2),
                {.opening = {}, .documents = documents, .question = question, .texts = texts}),
        row_origin::document);
  };
  CHECK(epic_rows(before) == std::vector<std::int32_t>{1, 2});
  CHECK(epic_rows(behind).empty());
}

TEST_CASE("a document that is in no reach is encoded by itself, and counts as computed") {
  const std::vector<std::int32_t> first{10, 11, 12}, second{20}, question{90};
  const std::vector<prompt_document> documents{{first, false}, {second}};
  const auto plan = planned(stitch_policy::none, {{}, documents, question});
  CHECK(plan.documents[0].source == document_source::encode);
  CHECK(plan.documents[0].encode_tokens == first);
  CHECK(plan.documents[0].segment == 1);
  CHECK(plan.documents[1].source == document_source::load);
  CHECK(plan.rows == std::vector<planned_row>{{90, 4, 0, row_origin::question}});
  CHECK(plan.recomputed_rows == 3);
  CHECK(plan.recomputed_share(4) == doctest::Approx(0.75));
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
    CHECK(plan->recomputed_share(4) == (made.documents.empty() ? 0.0 : 1.0));
    CHECK(!plan->loads_any());
  }
}

TEST_CASE("every position of a prompt is loaded or computed under every policy") {
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    const prompt made = random_prompt(random);
    const auto policy = random_policy(random);
    CAPTURE(name_of(policy));
    const auto plan = planned(policy, made.parts());
    const auto tokens = made.tokens();
    REQUIRE(plan.prompt_tokens == tokens.size());
    std::vector<int> filled(tokens.size());
    std::int32_t previous = -1;
    for (const planned_row& row : plan.rows) {
      REQUIRE(row.position > previous);
      previous = row.position;
      REQUIRE(row.segment == 0);
      REQUIRE(tokens[static_cast<std::size_t>(row.position)] == row.token);
      ++filled[static_cast<std::size_t>(row.position)];
    }
    REQUIRE(plan.documents.size() == made.documents.size());
    std::uint32_t encoded = 0;
    for (std::size_t i = 0; i < plan.documents.size(); ++i) {
      const placed_document& placed = plan.documents[i];
      CHECK(placed.rotated_position == placed.start_position);
      CHECK(placed.tokens == made.texts[i].size());
      CHECK(tokens[static_cast<std::size_t>(placed.start_position)] == made.texts[i].front());
      if (placed.source == document_source::compute) {
        CHECK(placed.segment == 0);
        continue;
      }
      CHECK(placed.segment == static_cast<std::int32_t>(i + 1));
      CHECK((placed.source == document_source::load) == made.documents[i].stored);
      if (placed.source == document_source::encode) {
        encoded += placed.tokens;
        CHECK(placed.encode_tokens == made.texts[i]);
      }
      for (std::uint32_t t = 0; t < placed.tokens; ++t)
        ++filled[static_cast<std::size_t>(placed.start_position) + t];
    }
    for (const int times : filled)
      REQUIRE(times >= 1);
    CHECK(plan.recomputed_rows >= encoded);
    CHECK(plan.recomputed_rows <= plan.document_tokens);
    CHECK(plan.rows.back().position + 1 == static_cast<std::int32_t>(plan.prompt_tokens));
    CHECK(plan.rows.size() >= plan.question_rows);
  }
}

TEST_CASE("links stand behind their documents and move what comes after them") {
  const std::vector<std::int32_t> opening{1}, first{10, 11, 12}, second{20, 21}, question{90};
  const std::vector<prompt_document> documents{{first}, {second}};
  const std::vector<std::vector<std::int32_t>> links{{70, 71}, {72, 73}};
  const prompt_parts parts{
      .opening = opening, .documents = documents, .question = question, .inserted = links};
  const auto plan = planned(stitch_policy::link(2), parts);
  CHECK(plan.documents[1].start_position == 6);
  CHECK(plan.rows == std::vector<planned_row>{{1, 0, 0, row_origin::opening},
                                              {70, 4, 0, row_origin::inserted},
                                              {71, 5, 0, row_origin::inserted},
                                              {72, 8, 0, row_origin::inserted},
                                              {73, 9, 0, row_origin::inserted},
                                              {90, 10, 0, row_origin::question}});
  CHECK(plan.prompt_tokens == 11);
  CHECK(plan.recomputed_rows == 0);
  // The policy says how many there must be.
  CHECK(!plan_stitch(stitch_policy::link(1), parts));
  CHECK(!plan_stitch(stitch_policy::link(5), {opening, documents, question}));
  CHECK(!plan_stitch(stitch_policy::none, {.opening = opening,
                                           .documents = documents,
                                           .question = question,
                                           .inserted = std::span(links).first(1)}));
  CHECK(planned(stitch_policy::link(0), {opening, documents, question}).rows ==
        planned(stitch_policy::none, {opening, documents, question}).rows);
}

TEST_CASE("epic computes the head of every document but one with nothing before it") {
  const std::vector<std::int32_t> opening{1}, first{10, 11, 12, 13}, second{20, 21}, question{90};
  const std::vector<prompt_document> documents{{first}, {second}, {first}};
  using list = std::vector<std::int32_t>;
  const auto alone = planned(stitch_policy::epic(3), {{}, documents, question});
  CHECK(positions_of(alone, row_origin::document) == list{4, 5, 6, 7, 8});
  CHECK(alone.documents[0].source == document_source::load);
  CHECK(alone.documents[1].source == document_source::compute);  // shorter than what is computed
  CHECK(alone.documents[2].source == document_source::load);
  CHECK(alone.recomputed_rows == 5);
  CHECK(alone.recomputed_share(7) == 0.5);
  const auto behind = planned(stitch_policy::epic(3), {opening, documents, question});
  CHECK(positions_of(behind, row_origin::document) == list{1, 2, 3, 5, 6, 7, 8, 9});
  CHECK(planned(stitch_policy::epic(0), {opening, documents, question}).rows ==
        planned(stitch_policy::none, {opening, documents, question}).rows);
  CHECK(planned(stitch_policy::epic(4), {opening, documents, question}).rows ==
        planned(stitch_policy::full, {opening, documents, question}).rows);
}

TEST_CASE("blend lists every row and how many of the documents' go on") {
  const std::vector<std::int32_t> opening{1}, first(13, 10), second(7, 20), question{90, 91};
  const std::vector<prompt_document> documents{{first}, {second, false}};
  const auto plan = planned(stitch_policy::blend(150'000, 2), {opening, documents, question});
  CHECK(plan.rows.size() == 23);
  CHECK(plan.selector == row_selector{2, 3});
  CHECK(plan.documents[0].source == document_source::load);
  CHECK(plan.documents[1].source == document_source::encode);
  CHECK(plan.loads_any());
  const auto stored =
      planned(stitch_policy::blend(150'000, 2), {opening, std::span(documents).first(1), question});
  CHECK(stored.recomputed_rows == 2);
  CHECK(stored.recomputed_share(4) == doctest::Approx((3 + 2.0 / 13) / 4));
  CHECK(!planned(stitch_policy::blend(150'000, 2), {opening, {}, question}).selector);
}

TEST_CASE("random rows: as many as asked for, the same for the same seed") {
  const std::vector<std::int32_t> text(50, 3), question{90};
  const std::vector<prompt_document> documents{{text}, {text}};
  const auto drawn = [&](std::uint32_t millionths, std::uint64_t seed) {
    return positions_of(planned(stitch_policy::random(millionths, seed), {{}, documents, question}),
                        row_origin::document);
  };
  CHECK(drawn(290'000, 1).size() == 29);
  CHECK(drawn(290'000, 1) == drawn(290'000, 1));
  CHECK(drawn(290'000, 1) != drawn(290'000, 2));
  CHECK(drawn(0, 1).empty());
  CHECK(drawn(1'000'000, 1).size() == 100);
  // More of the same seed: what was drawn stays.
  const auto few = drawn(100'000, 5), more = drawn(400'000, 5);
  CHECK(std::ranges::includes(more, few));
}

TEST_CASE("keys that stay where their document had them are rotated to its own positions") {
  const std::vector<std::int32_t> opening{1}, text{10, 11}, question{90};
  const std::vector<prompt_document> documents{{text}, {text}};
  const auto plan = planned(stitch_policy::none, {.opening = opening,
                                                  .documents = documents,
                                                  .question = question,
                                                  .positions = position_mode::document});
  CHECK(plan.documents[1].start_position == 3);
  CHECK(plan.documents[1].rotated_position == 0);
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
