// How well a model answers while its decode cache is bounded: every method through the same sessions, with
// what it holds, moves and takes measured as it runs.
//
// A context is computed before any question is known, and the method chooses among its rows then. Questions
// are fed token by token as decode steps, each question into a session of its own.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/adaptive/passive_store.hpp>
#include <weft/engine/adaptive/relevance_training.hpp>
#include <weft/engine/surrogate.hpp>
#include <weft/launcher/study/evaluation.hpp>
#include <weft/launcher/study/loaded_model.hpp>
#include <weft/launcher/study/set_file.hpp>
#include <weft/policies/adaptive/atskv.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace weft::launcher::study {

// A method as it is run, and how many of the context's rows each head may hold.
struct adaptive_run {
  std::string name;  // in tables
  policies::adaptive::method method = policies::adaptive::method::full;
  policies::adaptive::budget_scope scope = policies::adaptive::budget_scope::head;
  double ratio = 1;
  bool ablation = false;
  // In place of `method`: KVzap's rule while decoding, by this surrogate; the threshold is that which leaves
  // `ratio` of the context's rows, the rows of what follows are tested by it.
  std::optional<engine::surrogate_kind> kvzap = {};
  // Of atskv.
  bool passive = true;
  std::uint32_t sketch_bits = 2;  // for each channel of a passive row's key; 0: bounds of pages
  float recall_share = 0.02F;     // above 1: pages come back by the smoothed threshold only
  double recall_room = 0.01;      // of the budget, free for what comes back
  double turn_part = 0.25;        // of the layers, that a step decides on
  double ahead_part = 0.75;       // of the layers, looked ahead to
  std::uint32_t page_rows = 16;   // of a passive page, and of the decode cache's
  policies::adaptive::feature_set features = policies::adaptive::feature_set::all;
};

// Means over questions; times are medians. Bytes are those of K and V rows unless said.
struct adaptive_cell {
  adaptive_run run;
  evaluation_cell answers;
  double attention = 1;       // share of the full attention that falls on the rows that a step reads
  double resident_bytes = 0;  // most at a time: the decode cache's pages, sketches or bounds of passive rows
  double summary_bytes = 0;   // of those, sketches or bounds
  double full_bytes = 0;      // what all rows would take
  double state_bytes = 0;     // books
  double moved_bytes = 0;
  double promoted_rows = 0;
  double promotions = 0;  // pages
  double on_time = 1;     // of the promotions
  double lost_pages = 0;
  double step_ms = 0;
  double ttft_ms = 0;  // the context's computation, the choice among its rows, and the question
  double tokens_per_s = 0;
};

// Makes the passive store of a session; none: the process's own memory.
using store_factory = std::function<std::unique_ptr<engine::passive_store>()>;

// Classes of a model's tokens (see `policies::adaptive::token_kinds`), by id.
std::vector<std::uint8_t> token_kinds_of(const loaded_model& model);

// One cell for each run and task, in the order of the runs.
result<std::vector<adaptive_cell>> evaluate_adaptive(loaded_model& model,
                                                     std::span<const set_context> contexts,
                                                     std::span<const adaptive_run> runs,
                                                     const engine::relevance_predictors& predictors,
                                                     const evaluation_progress& progress,
                                                     const store_factory& make_store = {});

// A long text of generated tokens: what a session holds, and how long a step takes.
struct memory_point {
  std::string name;
  std::uint32_t tokens = 0;   // in the session
  double resident_bytes = 0;  // rows, and sketches or bounds
  double state_bytes = 0;
  double step_ms = 0;  // median since the point before
};

// Generates `generated_tokens` behind a prompt of `prompt_tokens` arbitrary ones, each head holding at most
// `rows`.
result<std::vector<memory_point>> generate_long(loaded_model& model, const adaptive_run& run,
                                                std::uint32_t prompt_tokens, std::uint32_t generated_tokens,
                                                std::uint32_t rows, std::uint32_t points,
                                                const engine::relevance_predictors& predictors);

}  // namespace weft::launcher::study
