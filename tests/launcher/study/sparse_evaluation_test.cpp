#include <weft/launcher/study/sparse_evaluation.hpp>

#include <doctest/doctest.h>

#include "shipped_model.hpp"

using namespace weft::launcher::study;
using weft::policies::budget_kind;
using weft::policies::importance_policy;
namespace retrieval = weft::policies::retrieval;

namespace {

retrieval::options way(retrieval::policy chosen, double ratio) {
  return {
      .chosen = chosen, .block_tokens = 16, .sparse_ratio = ratio, .scale = retrieval::usual_scale(chosen)};
}

std::vector<sparse_cell> cells_of(loaded_model& model, const std::vector<set_context>& contexts,
                                  const retrieval::options& how, const compression& rows) {
  const auto cells = evaluate_sparse(model, contexts, how, rows, [](std::size_t) {});
  REQUIRE_MESSAGE(cells.has_value(), cells.error().context);
  return *cells;
}

}  // namespace

TEST_CASE(
    "sparse decoding over kept rows is both: every block is what dense decoding reads, a quarter moves "
    "less") {
  auto model = shipped_model("auto");
  const auto contexts = shipped_contexts("kv_512.jsonl", 4);
  const compression kept{.importance = {importance_policy::kvzip},
                         .budgets = {budget_kind::global},
                         .ratios = {0.3, 1.0},
                         .unit = scored_unit::document};
  const auto dense = evaluate_compressed(model, contexts, kept, [](std::size_t) {});
  REQUIRE(dense);
  const auto full = cells_of(model, contexts, way(retrieval::policy::full, 1.0), kept);
  REQUIRE(full.size() == 2);
  for (std::size_t i = 0; i < full.size(); ++i) {
    CHECK(full[i].answers.importance == "kvzip");
    CHECK(full[i].answers.budget == "global");
    CHECK(full[i].answers.ratio == kept.ratios[i]);
    CHECK(full[i].answers.kept_ratio == (*dense)[i].kept_ratio);
    CHECK(full[i].answers.score == (*dense)[i].score);
  }

  const auto how = way(retrieval::policy::kvstar_ahead, 0.25);
  const auto whole = cells_of(model, contexts, how, {});
  const auto some = cells_of(model, contexts, how, kept);
  REQUIRE(whole.size() == 1);
  REQUIRE(some.size() == 2);
  CHECK(whole[0].answers.importance == "none");
  CHECK(some[1].answers.score == whole[0].answers.score);
  CHECK(some[1].moved_bytes == whole[0].moved_bytes);
  CHECK(some[0].moved_bytes < 0.6 * whole[0].moved_bytes);
  CHECK(some[0].resident_bytes < 0.8 * whole[0].resident_bytes);
}
