#include <weft/engine/adaptive/session.hpp>
#include <weft/launcher/study/adaptive_evaluation.hpp>

#include <doctest/doctest.h>

#include "shipped_model.hpp"

#include <algorithm>
#include <memory>

using namespace weft::launcher::study;
namespace adaptive = weft::policies::adaptive;
using adaptive::method;

namespace {

weft::engine::relevance_predictors by_attention(const loaded_model& model) {
  return {{adaptive::feature_set::all,
           std::make_shared<adaptive::relevance_predictor>(
               adaptive::attention_predictor(weft::engine::session_shape_of(model.runner.config())))}};
}

const adaptive_cell& cell(const std::vector<adaptive_cell>& cells, const std::string& name) {
  const auto found = std::ranges::find(cells, name, [](const auto& c) { return c.run.name; });
  REQUIRE(found != cells.end());
  return *found;
}

}  // namespace

TEST_CASE("bounded sessions hold less, and a passive store brings back what is needed late") {
  auto model = shipped_model("auto");
  const auto contexts = shipped_contexts("late_512.jsonl", 4);
  const std::vector<adaptive_run> runs{
      {.name = "full"},
      {.name = "streaming_llm", .method = method::streaming_llm, .ratio = 0.2},
      {.name = "oracle", .method = method::oracle, .scope = adaptive::budget_scope::global, .ratio = 0.2},
      {.name = "atskv without store",
       .method = method::atskv,
       .scope = adaptive::budget_scope::global,
       .ratio = 0.2,
       .passive = false},
      {.name = "atskv", .method = method::atskv, .scope = adaptive::budget_scope::global, .ratio = 0.2},
      // Bounds of so many unlike rows are too loose to tell which page is needed.
      {.name = "bounds",
       .method = method::atskv,
       .scope = adaptive::budget_scope::global,
       .ratio = 0.2,
       .sketch_bits = 0}};
  const auto found = evaluate_adaptive(model, contexts, runs, by_attention(model), [](std::size_t) {});
  REQUIRE_MESSAGE(found.has_value(), found.error().context);
  REQUIRE(found->size() == 6);
  const auto& full = cell(*found, "full");
  std::size_t questions = 0;
  for (const auto& context : contexts)
    questions += context.questions.size();
  CHECK(full.answers.n == questions);
  CHECK(full.answers.score > 80);
  CHECK(full.attention == doctest::Approx(1).epsilon(1e-3));
  CHECK(full.resident_bytes >= full.full_bytes * 0.95);
  const auto& streaming = cell(*found, "streaming_llm");
  CHECK(streaming.answers.score < full.answers.score / 2);
  CHECK(streaming.resident_bytes < full.resident_bytes * 0.35);
  CHECK(streaming.moved_bytes == 0);
  const auto& atskv = cell(*found, "atskv");
  CHECK(atskv.answers.score >= full.answers.score * 0.85);
  CHECK(atskv.answers.score >= cell(*found, "atskv without store").answers.score + 30);
  CHECK(atskv.answers.score >= cell(*found, "bounds").answers.score + 30);
  // The budget's rows, and sketches.
  CHECK(atskv.resident_bytes - atskv.summary_bytes < full.resident_bytes * 0.22);
  CHECK(atskv.resident_bytes < full.resident_bytes * 0.3);
  CHECK(atskv.promotions > 0);
  CHECK(atskv.moved_bytes > 0);
  CHECK(cell(*found, "oracle").attention > streaming.attention);
}

TEST_CASE(
    "rows are tested by a surrogate's guesses while they are decoded, at about the budget that was asked "
    "for") {
  auto model = shipped_model("auto");
  const auto contexts = shipped_contexts("late_512.jsonl", 2);
  std::vector<adaptive_run> runs{{.name = "full"},
                                 {.name = "random", .method = method::random, .ratio = 0.5}};
  for (const auto kind : {weft::engine::surrogate_kind::linear, weft::engine::surrogate_kind::mlp})
    for (const double ratio : {0.2, 0.5})
      runs.push_back({.name = std::string{weft::engine::name_of(kind)} + (ratio < 0.3 ? " few" : " many"),
                      .ratio = ratio,
                      .kvzap = kind});
  const auto found = evaluate_adaptive(model, contexts, runs, {}, [](std::size_t) {});
  REQUIRE_MESSAGE(found.has_value(), found.error().context);
  const double all = cell(*found, "full").resident_bytes;
  for (const std::string kind : {"linear", "mlp"}) {
    CAPTURE(kind);
    const auto& few = cell(*found, kind + " few");
    const auto& many = cell(*found, kind + " many");
    // Pages that are not full, the question, and rows of it that score well.
    CHECK(few.resident_bytes > 0.18 * all);
    CHECK(few.resident_bytes < 0.3 * all);
    CHECK(many.resident_bytes > 0.48 * all);
    CHECK(many.resident_bytes < 0.6 * all);
    CHECK(many.attention > few.attention);
    CHECK(many.answers.score > cell(*found, "random").answers.score);
    CHECK(many.promotions == 0);
  }
}

TEST_CASE("a missing predictor is named") {
  auto model = shipped_model("auto");
  const auto contexts = shipped_contexts("late_512.jsonl", 1);
  const std::vector<adaptive_run> runs{
      {.name = "atskv", .method = method::atskv, .ratio = 0.2, .features = adaptive::feature_set::age_only}};
  const auto found = evaluate_adaptive(model, contexts, runs, by_attention(model), [](std::size_t) {});
  REQUIRE(!found);
  CHECK(found.error().context.find("age_only") != std::string::npos);
}

TEST_CASE("long generation is measured at as many points as are wanted") {
  auto model = shipped_model("auto");
  const auto points = generate_long(model, {.name = "tova", .method = method::tova}, 100, 60, 40, 3, {});
  REQUIRE_MESSAGE(points.has_value(), points.error().context);
  REQUIRE(points->size() == 3);
  CHECK(points->back().tokens == 160);
  CHECK(points->back().resident_bytes == points->front().resident_bytes);
}
