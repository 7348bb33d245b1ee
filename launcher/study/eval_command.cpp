#include <weft/launcher/study/evaluation.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "sparse_eval.hpp"
#include "study_commands.hpp"

#include <cstdio>
#include <memory>

namespace weft::launcher::study {

namespace {

using nlohmann::json;

struct eval_options {
  std::filesystem::path model;
  std::vector<std::filesystem::path> sets;
  std::string stitch = "none,full";
  std::string positions = "prompt";
  sparse_eval_options sparse;
  std::string dtype = "auto";
  std::size_t limit = 0;
  unsigned threads = 0;
};

// A policy, as it was asked for and as it is understood.
struct named_policy {
  std::string name;
  policies::stitch_policy policy;
};

struct set_cell {
  std::string set;
  std::string stitch;
  evaluation_cell cell;
};

json json_of(const set_cell& found) {
  const auto& cell = found.cell;
  return {{"set", found.set},
          {"task", cell.task},
          {"importance", "none"},
          {"budget", "none"},
          {"ratio", 1.0},
          {"stitch", found.stitch},
          {"retrieval", "none"},
          {"sparse_ratio", 1.0},
          {"n", cell.n},
          {"score", cell.score},
          {"low", cell.low},
          {"high", cell.high},
          {"kept_ratio", cell.kept_ratio},
          {"bytes", cell.bytes},
          {"recomputed_rows", cell.recomputed_rows},
          {"recomputed_share", cell.recomputed_share},
          {"ttft_ms", cell.ttft_ms},
          {"rotate_ms", cell.rotate_ms},
          {"compute_ms", cell.compute_ms}};
}

void print_table(const std::vector<set_cell>& cells) {
  std::printf("%-16s %-10s %-12s %5s %7s %15s %10s %9s %9s\n", "set", "task", "stitch", "n", "score", "95 %",
              "bytes", "recomp. %", "ttft ms");
  for (const auto& [set, stitch, cell] : cells)
    std::printf("%-16s %-10s %-12s %5zu %7.1f %6.1f – %6.1f %10.0f %9.1f %9.2f\n", set.c_str(),
                cell.task.c_str(), stitch.c_str(), cell.n, cell.score, cell.low, cell.high, cell.bytes,
                100 * cell.recomputed_share, cell.ttft_ms);
}

result<std::vector<set_cell>> evaluate_set(loaded_model& model, const std::filesystem::path& file,
                                           const std::vector<named_policy>& policies,
                                           policies::position_mode positions, std::size_t limit) {
  auto contexts = read_set_file(file);
  if (!contexts) return tl::unexpected(contexts.error());
  if (limit > 0 && contexts->size() > limit) contexts->resize(limit);
  std::vector<set_cell> found;
  const auto set = file.stem().string();
  for (const auto& [name, policy] : policies) {
    const auto progress = [&](std::size_t done) {
      if (done % 10 == 0 || done == contexts->size())
        spdlog::info("{}, stitch {}: {} of {} contexts", set, name, done, contexts->size());
    };
    const auto cells = evaluate(model, *contexts, policy, progress, positions);
    if (!cells)
      return tl::unexpected(error{cells.error().code, file.string() + ": " + cells.error().context});
    for (const auto& cell : *cells)
      found.push_back({set, name, cell});
  }
  return found;
}

result<std::vector<named_policy>> policies_of(const std::string& list) {
  std::vector<named_policy> found;
  for (const auto& name : policies::split_policy_names(list)) {
    const auto policy = policies::stitch_policy_from_name(name);
    if (!policy) return tl::unexpected(policy.error());
    found.push_back({name, *policy});
  }
  return found;
}

int run_eval(const eval_options& options, const command_context& context) {
  if (!options.sparse.policies.empty())
    return run_sparse_eval({options.model, options.sets, options.dtype, options.limit, options.threads},
                           options.sparse, context);
  const auto policies = policies_of(options.stitch);
  if (!policies) return report_wrong_use("--stitch: " + policies.error().context);
  const auto how = options_for_dtype(options.dtype, options.threads);
  if (!how) return report_wrong_use("--dtype: " + how.error().context);
  auto model = load_model(options.model, *how);
  if (!model) return report(model.error());
  std::vector<set_cell> cells;
  for (const auto& file : options.sets) {
    const auto found = evaluate_set(
        *model, file, *policies,
        options.positions == "prompt" ? policies::position_mode::prompt : policies::position_mode::document,
        options.limit);
    if (!found) return report(found.error());
    cells.insert(cells.end(), found->begin(), found->end());
  }
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

}  // namespace

void add_eval_command(CLI::App& app, command_context& context) {
  auto options = std::make_shared<eval_options>();
  auto* command = add_command(
      app, "eval", "how often a model answers right, by how documents are put into the prompt",
      "weft eval --model models/recall --set models/sets/hop_512.jsonl --stitch none,epic,full", context);
  command->add_option("--model", options->model, "model folder")->required();
  command->add_option("--set", options->sets, "sets of questions (.jsonl)")->required();
  command
      ->add_option("--stitch", options->stitch,
                   "how documents come into the prompt, separated by commas: none, link(K), epic(k), "
                   "blend(r,layer), random(r,seed), full")
      ->capture_default_str();
  command
      ->add_option(
          "--positions", options->positions,
          "what reused keys are rotated to: where they stand in the prompt, or in their own document "
          "(a control)")
      ->check(CLI::IsMember({"prompt", "document"}))
      ->capture_default_str();
  add_sparse_eval_options(*command, options->sparse);
  command->add_option("--dtype", options->dtype, "cache: auto (as the weights), f32, bf16, f16")
      ->capture_default_str();
  command->add_option("--limit", options->limit, "contexts of each set (default: all)")
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", options->threads, "0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  on_run(command, context, [options, &context] { return run_eval(*options, context); });
}

}  // namespace weft::launcher::study
