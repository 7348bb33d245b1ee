#include "sparse_eval.hpp"

#include <weft/launcher/study/sparse_evaluation.hpp>

#include <CLI/CLI.hpp>
#include <spdlog/fmt/fmt.h>

#include <optional>

namespace weft::launcher::study {

namespace {

namespace retrieval = policies::retrieval;

eval_cell reported(const named_set& set, const sparse_cell& cell) {
  return {.set = set.name,
          .stitch = "none",
          .numbers = cell.answers,
          .sparse = sparse_numbers{.retrieval = std::string{retrieval::name_of(cell.retrieval.chosen)},
                                   .ratio = cell.retrieval.sparse_ratio,
                                   .stride = cell.retrieval.stride,
                                   .moved_bytes = cell.moved_bytes,
                                   .late_loads = cell.late_loads,
                                   .step_ms = cell.step_ms}};
}

}  // namespace

void add_sparse_eval_options(CLI::App& command, sparse_eval_options& options) {
  auto& shared = options.shared;
  command
      .add_option(
          "--retrieval", options.policies,
          "decode sparsely: full, kvstar, esa, quest, kvstar_ahead (documents stitched as `none`); with "
          "--importance over the rows that it keeps")
      ->delimiter(',');
  command.add_option("--sparse-ratio", options.ratios, "share of the middle blocks that is attended")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--block-tokens", shared.block_tokens, "tokens of a block")->capture_default_str();
  command.add_option("--init-blocks", shared.init_blocks, "first blocks, always attended")
      ->capture_default_str();
  command.add_option("--local-blocks", shared.local_blocks, "last blocks, always attended")
      ->capture_default_str();
  command.add_option("--stride", shared.stride, "decode steps of a retrieval period (kvstar)")
      ->capture_default_str();
  command.add_option("--dim-ratio", shared.dim_ratio, "share of channels that representations keep")
      ->capture_default_str();
  command.add_option("--token-merge", shared.token_merge, "adjacent tokens that share a vector")
      ->capture_default_str();
  command.add_option("--scale", options.scale,
                     "what products are divided by the root of: none, head_dim, kept_dim (default: head_dim "
                     "for kvstar_ahead, else none)");
}

result<sparse_runs> sparse_runs_of(const sparse_eval_options& options) {
  sparse_runs runs;
  std::optional<retrieval::score_scale> asked_scale;
  if (!options.scale.empty()) {
    const auto scale = retrieval::score_scale_from_name(options.scale);
    if (!scale) return fail(scale.error().code, "--scale: " + scale.error().context);
    asked_scale = *scale;
  }
  for (const auto& name : options.policies) {
    const auto policy = retrieval::policy_from_name(name);
    if (!policy) return fail(policy.error().code, "--retrieval: " + policy.error().context);
    for (const double ratio : options.ratios) {
      auto run = options.shared;
      run.chosen = *policy;
      run.scale = asked_scale.value_or(retrieval::usual_scale(run.chosen));
      run.sparse_ratio = *policy == retrieval::policy::full ? 1.0 : ratio;
      if (auto checked = retrieval::check(run); !checked) return tl::unexpected(checked.error());
      runs.push_back(run);
      if (*policy == retrieval::policy::full) break;
    }
  }
  return runs;
}

result<std::vector<eval_cell>> evaluate_sparse_runs(loaded_model& model, const std::vector<named_set>& sets,
                                                    const sparse_runs& runs, const compression& rows) {
  std::vector<eval_cell> found;
  for (const auto& set : sets)
    for (const auto& run : runs) {
      const auto what = fmt::format("retrieval {} at {}", retrieval::name_of(run.chosen), run.sparse_ratio);
      const auto cells = evaluate_sparse(model, set.contexts, run, rows, logged_progress(set, what));
      if (!cells) return tl::unexpected(in_set(set, cells.error()));
      for (const auto& cell : *cells)
        found.push_back(reported(set, cell));
    }
  return found;
}

}  // namespace weft::launcher::study
