// The rows of one context, scored by one policy before any question is known, and those that a budget keeps.
#pragma once

#include <weft/engine/repeat_plan.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/launcher/study/compressed_evaluation.hpp>
#include <weft/launcher/study/loaded_model.hpp>

#include "scored_prompt.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace weft::launcher::study {

// Scored as a whole, or document by document. Refers to what it is made from.
class context_scores {
 public:
  // `head_scores`: of the model, or none.
  context_scores(const scored_prompt& prompt, scored_unit unit, std::span<const float> head_scores)
      : prompt_(prompt), unit_(unit), head_scores_(head_scores) {}

  // `seed`: of `random`.
  result<void> score(loaded_model& model, engine::row_scorer& scorer, const engine::repeat_plan& plan,
                     policies::importance_policy policy, std::uint64_t seed);

  // Documents that are scored alone have a budget each. `ratio` of a threshold: the least score.
  result<policies::kept_rows> keep(policies::budget_kind kind, double ratio) const;

  // Of a context that was scored as a whole.
  const policies::score_table& of_context() const { return tables_.front(); }

 private:
  result<void> add(result<policies::score_table> scores);
  result<policies::kept_rows> keep_by_document(const policies::budget& wanted) const;

  const scored_prompt& prompt_;
  scored_unit unit_;
  std::span<const float> head_scores_;
  std::vector<policies::score_table> tables_;
};

// What lies beside a model that has some; empty where it has none.
result<std::vector<float>> head_scores_of(const loaded_model& model);

}  // namespace weft::launcher::study
