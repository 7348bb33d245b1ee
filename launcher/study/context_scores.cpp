#include "context_scores.hpp"

#include <weft/engine/head_scores.hpp>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

namespace weft::launcher::study {

using policies::budget_kind;
using policies::kept_rows;
using policies::score_table;

namespace {

result<score_table> score_with(loaded_model& model, engine::row_scorer& scorer,
                               const engine::scoring_request& request) {
  engine::kv_cache cache(model.runner.cache_shape(), engine::scoring_capacity_rows(request));
  return scorer.score(cache, request);
}

}  // namespace

result<void> context_scores::score(loaded_model& model, engine::row_scorer& scorer,
                                   const engine::repeat_plan& plan, policies::importance_policy policy,
                                   std::uint64_t seed) {
  engine::scoring_request request{.policy = policy, .repeat = &plan.prompt};
  request.options.seed = seed;
  if (unit_ == scored_unit::context) {
    request.tokens = prompt_.tokens;
    request.segments = prompt_.segments;
    request.system_rows = prompt_.system_rows;
    request.chunks = prompt_.chunks(plan);
    return add(score_with(model, scorer, request));
  }
  for (const auto& [first, tokens] : prompt_.documents) {
    request.tokens = std::span(prompt_.tokens).subspan(first, tokens);
    request.chunks = plan.chunks(0, tokens);
    if (auto added = add(score_with(model, scorer, request)); !added) return added;
  }
  return {};
}

result<kept_rows> context_scores::keep(budget_kind kind, double ratio) const {
  policies::budget wanted{.kind = kind, .head_scores = head_scores_};
  if (kind == budget_kind::threshold) {
    wanted.least_score = static_cast<float>(ratio);
  } else {
    const auto decimal = policies::decimal_ratio::from(ratio);
    if (!decimal) return tl::unexpected(decimal.error());
    wanted.ratio = *decimal;
  }
  if (unit_ == scored_unit::context) {
    wanted.protected_rows = prompt_.system_rows;
    return policies::keep_rows(tables_.front(), wanted);
  }
  return keep_by_document(wanted);
}

result<void> context_scores::add(result<score_table> scores) {
  if (!scores) return tl::unexpected(scores.error());
  tables_.push_back(std::move(*scores));
  return {};
}

result<kept_rows> context_scores::keep_by_document(const policies::budget& wanted) const {
  kept_rows all({tables_.front().shape.layers, tables_.front().shape.kv_heads, prompt_.size()});
  for (std::size_t head = 0; head < all.shape.heads(); ++head)
    std::ranges::fill(all.head(head).first(prompt_.system_rows), std::uint8_t{1});
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const auto kept = policies::keep_rows(tables_[i], wanted);
    if (!kept) return tl::unexpected(kept.error());
    for (std::size_t head = 0; head < all.shape.heads(); ++head)
      std::ranges::copy(kept->head(head), all.head(head).begin() + prompt_.documents[i].first);
  }
  return all;
}

result<std::vector<float>> head_scores_of(const loaded_model& model) {
  const auto heads = engine::head_scores_file(model.runner.folder());
  std::error_code code;
  if (!std::filesystem::exists(heads, code)) return std::vector<float>{};
  return engine::load_head_scores(heads, model.runner);
}

}  // namespace weft::launcher::study
