#include <weft/launcher/study/compressed_evaluation.hpp>
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
  std::vector<std::string> importance;
  std::vector<std::string> budgets{"global"};
  std::vector<double> ratios{0.1, 0.2, 0.3, 0.5};
  std::string scored = "context";
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
          {"importance", cell.importance},
          {"budget", cell.budget},
          {"ratio", cell.ratio},
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
  std::printf("%-14s %-8s %-18s %-9s %6s %-12s %5s %7s %15s %6s %10s %9s %9s\n", "set", "task", "importance",
              "budget", "ratio", "stitch", "n", "score", "95 %", "kept", "bytes", "recomp. %", "ttft ms");
  for (const auto& [set, stitch, cell] : cells)
    std::printf("%-14s %-8s %-18s %-9s %6g %-12s %5zu %7.1f %6.1f – %6.1f %6.3f %10.0f %9.1f %9.2f\n",
                set.c_str(), cell.task.c_str(), cell.importance.c_str(), cell.budget.c_str(), cell.ratio,
                stitch.c_str(), cell.n, cell.score, cell.low, cell.high, cell.kept_ratio, cell.bytes,
                100 * cell.recomputed_share, cell.ttft_ms);
}

result<std::vector<set_cell>> evaluate_set(loaded_model& model, const std::filesystem::path& file,
                                           const std::vector<named_policy>& policies,
                                           policies::position_mode positions, compression compressed,
                                           std::size_t limit) {
  auto contexts = read_set_file(file);
  if (!contexts) return tl::unexpected(contexts.error());
  if (limit > 0 && contexts->size() > limit) contexts->resize(limit);
  std::vector<set_cell> found;
  const auto set = file.stem().string();
  for (const auto& [name, policy] : policies) {
    const evaluation_progress progress = [&](std::size_t done) {
      if (done % 10 == 0 || done == contexts->size())
        spdlog::info("{}, stitch {}: {} of {} contexts", set, name, done, contexts->size());
    };
    compressed.stitch = policy;
    const auto cells = compressed.importance.empty()
                           ? evaluate(model, *contexts, policy, progress, positions)
                           : evaluate_compressed(model, *contexts, compressed, progress);
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

result<compression> compression_of(const eval_options& options) {
  compression wanted;
  for (const auto& name : options.importance) {
    const auto policy = policies::importance_policy_from_name(name);
    if (!policy) return fail(errc::invalid_argument, "--importance: " + policy.error().context);
    wanted.importance.push_back(*policy);
  }
  for (const auto& name : options.budgets) {
    const auto kind = policies::budget_kind_from_name(name);
    if (!kind) return fail(errc::invalid_argument, "--budget: " + kind.error().context);
    wanted.budgets.push_back(*kind);
  }
  wanted.ratios = options.ratios;
  wanted.unit = options.scored == "alone" ? scored_unit::document : scored_unit::context;
  return wanted;
}

int run_eval(const eval_options& options, const command_context& context) {
  if (!options.sparse.policies.empty() && !options.importance.empty())
    return report_wrong_use("--importance and --retrieval are measured apart; give one of them");
  if (!options.sparse.policies.empty())
    return run_sparse_eval({options.model, options.sets, options.dtype, options.limit, options.threads},
                           options.sparse, context);
  const auto compressed = compression_of(options);
  if (!compressed) return report_wrong_use(compressed.error().context);
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
        *compressed, options.limit);
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
  auto* command =
      add_command(app, "eval", "how often a model answers right, by how documents are put into the prompt",
                  "weft eval --model models/recall --set models/sets/hop_512.jsonl --stitch none,epic,full\n"
                  "  weft eval --model models/recall --set models/sets/hop_512.jsonl --importance "
                  "kvzip,random --ratio 0.2,0.3",
                  context);
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
  command
      ->add_option(
          "--importance", options->importance,
          "keep rows by these policies before any question is asked: kvzip, kvzip_plus, snapkv, h2o, "
          "tova, expected_attention, knorm, keydiff, streaming_llm, random")
      ->delimiter(',');
  command
      ->add_option("--budget", options->budgets,
                   "how rows are shared out: global, uniform, adakv, pyramid, head, threshold")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--ratio", options->ratios, "fractions kept (of threshold: the least score)")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--scored", options->scored, "what is scored at once: the context, or documents alone")
      ->check(CLI::IsMember({"context", "alone"}))
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "cache: auto (as the weights), f32, bf16, f16")
      ->capture_default_str();
  command->add_option("--limit", options->limit, "contexts of each set (default: all)")
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", options->threads, "0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  on_run(command, context, [options, command, &context] {
    // A context that is scored as one is one text; documents that are scored alone see only themselves.
    if (!options->importance.empty() && command->count("--stitch") == 0)
      options->stitch = options->scored == "alone" ? "none" : "full";
    return run_eval(*options, context);
  });
}

}  // namespace weft::launcher::study
