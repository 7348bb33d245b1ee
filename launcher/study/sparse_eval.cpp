#include "sparse_eval.hpp"

#include <weft/launcher/study/sparse_evaluation.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <cstdio>

namespace weft::launcher::study {

namespace {

using nlohmann::json;
namespace retrieval = policies::retrieval;

struct set_cell {
  std::string set;
  sparse_cell cell;
};

json json_of(const set_cell& found) {
  const auto& cell = found.cell;
  const auto& answers = cell.answers;
  return {{"set", found.set},
          {"task", answers.task},
          {"importance", "none"},
          {"budget", "none"},
          {"ratio", 1.0},
          {"stitch", "none"},
          {"retrieval", retrieval::name_of(cell.retrieval.chosen)},
          {"sparse_ratio", cell.retrieval.sparse_ratio},
          {"stride", cell.retrieval.stride},
          {"n", answers.n},
          {"score", answers.score},
          {"low", answers.low},
          {"high", answers.high},
          {"kept_ratio", 1.0},
          {"bytes", answers.bytes},
          {"moved_bytes", cell.moved_bytes},
          {"late_loads", cell.late_loads},
          {"recomputed_rows", 0},
          {"ttft_ms", answers.ttft_ms},
          {"step_ms", cell.step_ms}};
}

void print_table(const std::vector<set_cell>& cells) {
  std::printf("%-14s %-8s %-13s %6s %7s %5s %6s %15s %11s %10s %8s\n", "set", "task", "retrieval", "ratio",
              "stride", "n", "score", "95 %", "resident B", "moved B", "step ms");
  for (const auto& [set, cell] : cells)
    std::printf("%-14s %-8s %-13s %6.3f %7u %5zu %6.1f %6.1f – %6.1f %11.0f %10.0f %8.3f\n", set.c_str(),
                cell.answers.task.c_str(), std::string{retrieval::name_of(cell.retrieval.chosen)}.c_str(),
                cell.retrieval.sparse_ratio, cell.retrieval.stride, cell.answers.n, cell.answers.score,
                cell.answers.low, cell.answers.high, cell.resident_bytes, cell.moved_bytes, cell.step_ms);
}

// Every policy at every ratio; `full` has one.
result<std::vector<retrieval::options>> runs_of(const sparse_eval_options& options) {
  std::vector<retrieval::options> runs;
  const auto scale = retrieval::score_scale_from_name(options.scale);
  if (!scale) return fail(scale.error().code, "--scale: " + scale.error().context);
  for (const auto& name : options.policies) {
    const auto policy = retrieval::policy_from_name(name);
    if (!policy) return fail(policy.error().code, "--retrieval: " + policy.error().context);
    for (const double ratio : options.ratios) {
      auto run = options.shared;
      run.chosen = *policy;
      run.scale = *scale;
      run.sparse_ratio = *policy == retrieval::policy::full ? 1.0 : ratio;
      if (auto checked = retrieval::check(run); !checked) return tl::unexpected(checked.error());
      runs.push_back(run);
      if (*policy == retrieval::policy::full) break;
    }
  }
  return runs;
}

result<void> evaluate_set(loaded_model& model, const std::filesystem::path& file,
                          const std::vector<retrieval::options>& runs, std::size_t limit,
                          std::vector<set_cell>& found) {
  auto contexts = read_set_file(file);
  if (!contexts) return tl::unexpected(contexts.error());
  if (limit > 0 && contexts->size() > limit) contexts->resize(limit);
  const auto name = file.stem().string();
  for (const auto& run : runs) {
    const auto cells = evaluate_sparse(model, *contexts, run, [&](std::size_t done) {
      if (done % 10 == 0 || done == contexts->size())
        spdlog::info("{}, retrieval {} at {}: {} of {} contexts", name, retrieval::name_of(run.chosen),
                     run.sparse_ratio, done, contexts->size());
    });
    if (!cells)
      return tl::unexpected(error{cells.error().code, file.string() + ": " + cells.error().context});
    for (const auto& cell : *cells)
      found.push_back({name, cell});
  }
  return {};
}

}  // namespace

void add_sparse_eval_options(CLI::App& command, sparse_eval_options& options) {
  auto& shared = options.shared;
  command
      .add_option("--retrieval", options.policies,
                  "decode sparsely: full, kvstar, esa, quest, kvstar_ahead (documents stitched as `none`)")
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
  command.add_option("--scale", options.scale, "what products are scaled by: none, head_dim, kept_dim")
      ->capture_default_str();
}

int run_sparse_eval(const eval_input& input, const sparse_eval_options& options,
                    const command_context& context) {
  const auto runs = runs_of(options);
  if (!runs) return report_wrong_use(runs.error().context);
  const auto how = options_for_dtype(input.dtype, input.threads);
  if (!how) return report_wrong_use("--dtype: " + how.error().context);
  auto model = load_model(input.model, *how);
  if (!model) return report(model.error());
  std::vector<set_cell> cells;
  for (const auto& file : input.sets)
    if (auto done = evaluate_set(*model, file, *runs, input.limit, cells); !done) return report(done.error());
  if (!context.json) {
    print_table(cells);
    return exit_done;
  }
  json document = {{"cells", json::array()}};
  for (const auto& cell : cells)
    document["cells"].push_back(json_of(cell));
  print_json(document);
  return exit_done;
}

}  // namespace weft::launcher::study
