// Accuracy of a model whose documents were compressed before any question was known.
#pragma once

#include <weft/base/error.hpp>
#include <weft/kernels/row_codec.hpp>
#include <weft/launcher/study/evaluation.hpp>
#include <weft/policies/budget.hpp>
#include <weft/policies/importance.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::launcher::study {

// What is scored at once: the whole context, or each document by itself, as the pool stores it. Alone, every
// document has a budget of its own.
enum class scored_unit : bool { context, document };

struct compression {
  std::vector<policies::importance_policy> importance;
  std::vector<policies::budget_kind> budgets;
  std::vector<double> ratios;  // of `threshold`: the least score
  // none: documents see only themselves; full: all that stands before them. Others are refused.
  policies::stitch_policy stitch = {};
  scored_unit unit = scored_unit::context;
  std::uint64_t seed = 0;                               // of `random`
  kernels::row_codec coding = kernels::row_codec::raw;  // of the rows that answers are read from
};

// For every combination: keep rows, copy them into a cache that has room for nothing else but a question and
// its answer, ask every question of it. One cell for each combination and task.
result<std::vector<evaluation_cell>> evaluate_compressed(loaded_model& model,
                                                         std::span<const set_context> contexts,
                                                         const compression& wanted,
                                                         const evaluation_progress& progress);

}  // namespace weft::launcher::study
