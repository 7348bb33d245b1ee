// `weft eval --retrieval`: its options, and how they are carried out.
#pragma once

#include <weft/launcher/study/compressed_evaluation.hpp>
#include <weft/launcher/study/loaded_model.hpp>
#include <weft/policies/retrieval/options.hpp>

#include <CLI/App.hpp>

#include "eval_cells.hpp"
#include "eval_input.hpp"

#include <string>
#include <vector>

namespace weft::launcher::study {

struct sparse_eval_options {
  std::vector<std::string> policies;
  std::vector<double> ratios{0.25};
  policies::retrieval::options shared;
  std::string scale;  // empty: the policy's own
};

using sparse_runs = std::vector<policies::retrieval::options>;

void add_sparse_eval_options(CLI::App& command, sparse_eval_options& options);

// Every policy at every ratio; `full` has one. The error names the option.
result<sparse_runs> sparse_runs_of(const sparse_eval_options& options);

// One cell for each set, run, choice of rows (where there are some) and task.
result<std::vector<eval_cell>> evaluate_sparse_runs(loaded_model& model, const std::vector<named_set>& sets,
                                                    const sparse_runs& runs, const compression& rows);

}  // namespace weft::launcher::study
