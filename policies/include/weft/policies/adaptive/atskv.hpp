// ATSKV: rows stay while their predicted relevance is above an adaptive threshold, under a hard cap; rows
// that leave go to a passive store and come back when they matter.
//
// At every step each row's relevance is predicted anew, resident or not: the attention that a row in the
// passive store would have received is estimated from a sketch of its key, or from its page's bounds. The
// threshold's decisions are smoothed (see
// `smoothed_choice`); sinks and the last rows stay. Whatever the predictor says, the rows of heads that share
// a budget never exceed it: where room is short, the least relevant row leaves, and where the cap collides
// with sinks and last rows, the cap wins.
#pragma once

#include <weft/base/error.hpp>
#include <weft/policies/adaptive/cache_policy.hpp>
#include <weft/policies/adaptive/relevance.hpp>

#include <cstdint>
#include <memory>

namespace weft::policies::adaptive {

struct atskv_options {
  std::uint32_t rows = 256;  // of each head; heads of one scope share what they have together
  budget_scope scope = budget_scope::global;  // `layer` is the published form
  std::uint32_t sinks = 4;
  std::uint32_t window = 64;  // last rows that stay, but at most a quarter of `rows`
  bool passive = true;        // rows that leave are stored, and can come back
  // For each channel of a passive row's key; single rows come back. 0: bounds of pages, which come back
  // whole.
  std::uint32_t sketch_bits = 2;
  // A row whose share of the coming attention could be so large comes back at once. Above 1: only the
  // smoothed threshold brings rows back, as published.
  float recall_share = 0.02F;
  double recall_room = 0.01;  // part of the budget that is left free for what comes back in a step
  // Part of the layers, but at least one, whose attention a step watches, whose rows it predicts and decides
  // on: they take turns. What could matter now comes back in any layer.
  double turn_part = 0.25;
  // Part of the layers, but at least one, whose queries a step estimates one layer ahead: those that brought
  // back most lately.
  double ahead_part = 0.75;
};

// The predictor is shared by the sessions of a model.
class atskv_policy : public cache_policy {
 public:
  // From the next `decide` on.
  virtual void set_rows(std::uint32_t rows_of_head) = 0;
  virtual double quantile(std::size_t group) const = 0;
};

// `invalid_argument` if the predictor is another model's, or an option makes no sense.
result<std::unique_ptr<atskv_policy>> make_atskv(const session_shape& shape, const atskv_options& options,
                                                 std::shared_ptr<const relevance_predictor> predictor);

}  // namespace weft::policies::adaptive
