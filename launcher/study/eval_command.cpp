#include <weft/launcher/study/compressed_evaluation.hpp>
#include <weft/launcher/study/evaluation.hpp>
#include <weft/launcher/study/retrieved_evaluation.hpp>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include "adaptive_suite.hpp"
#include "eval_cells.hpp"
#include "eval_input.hpp"
#include "eval_report.hpp"
#include "sparse_eval.hpp"
#include "study_commands.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace weft::launcher::study {

namespace {

struct eval_options {
  eval_input input;
  std::filesystem::path report;
  std::string stitch = "none,full";
  std::string positions = "prompt";
  sparse_eval_options sparse;
  std::vector<std::size_t> retrieve;
  std::string pool = "set";
  std::vector<std::string> importance;
  std::vector<std::string> budgets{"global"};
  std::vector<double> ratios{0.1, 0.2, 0.3, 0.5};
  std::string scored = "context";
  std::uint64_t seed = 0;
  std::vector<std::string> codecs{"raw"};
  std::string suite;
  adaptive_suite_options adaptive;
};

// A policy, as it was asked for and as it is understood.
struct named_policy {
  std::string name;
  policies::stitch_policy policy;
};

// What is to be measured, every name of it understood.
struct eval_plan {
  std::vector<named_policy> stitch;
  policies::position_mode positions{};
  compression compressed;  // without policies: nothing is
  std::vector<kernels::row_codec> codecs;
  sparse_runs sparse;  // not empty: only these
  engine::runner_options how;
};

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
  wanted.seed = options.seed;
  return wanted;
}

result<std::vector<kernels::row_codec>> codecs_of(const eval_options& options) {
  std::vector<kernels::row_codec> found;
  for (const auto& name : options.codecs) {
    const auto coding = kernels::row_codec_from_name(name);
    if (!coding) return fail(errc::invalid_argument, "--codec: '" + name + "' is none of raw, int8, int4");
    found.push_back(*coding);
  }
  return found;
}

result<eval_plan> plan_of(const eval_options& options) {
  eval_plan plan;
  if (!options.retrieve.empty() && (!options.sparse.policies.empty() || !options.importance.empty()))
    return fail(errc::invalid_argument,
                "--retrieve is measured apart from --retrieval and --importance; give one of them");
  if (!options.sparse.policies.empty() && options.scored == "context" &&
      std::ranges::find(options.budgets, "threshold") != options.budgets.end())
    return fail(
        errc::invalid_argument,
        "--budget threshold goes on pruning a context that is scored as a whole, which sparse decoding "
        "does not; leave out --scored, or take another budget");
  if (!options.sparse.policies.empty() && options.codecs != std::vector<std::string>{"raw"})
    return fail(errc::invalid_argument,
                "--codec: sparse decoding is measured over raw rows; leave out --codec or --retrieval");
  const auto how = options_for_dtype(options.input.dtype, options.input.threads);
  if (!how) return fail(how.error().code, "--dtype: " + how.error().context);
  plan.how = *how;
  auto compressed = compression_of(options);
  if (!compressed) return tl::unexpected(compressed.error());
  plan.compressed = std::move(*compressed);
  if (!options.sparse.policies.empty()) {
    auto runs = sparse_runs_of(options.sparse);
    if (!runs) return tl::unexpected(runs.error());
    plan.sparse = std::move(*runs);
    return plan;
  }
  auto codecs = codecs_of(options);
  if (!codecs) return tl::unexpected(codecs.error());
  plan.codecs = std::move(*codecs);
  auto stitch = policies_of(options.stitch);
  if (!stitch) return fail(stitch.error().code, "--stitch: " + stitch.error().context);
  plan.stitch = std::move(*stitch);
  plan.positions =
      options.positions == "prompt" ? policies::position_mode::prompt : policies::position_mode::document;
  return plan;
}

result<void> evaluate_set(loaded_model& model, const named_set& set, const eval_plan& plan,
                          const named_policy& stitch, kernels::row_codec coding,
                          std::vector<eval_cell>& found) {
  const auto progress =
      logged_progress(set, "stitch " + stitch.name + ", " + std::string(kernels::name_of(coding)));
  auto compressed = plan.compressed;
  compressed.stitch = stitch.policy;
  compressed.coding = coding;
  const auto cells = compressed.importance.empty()
                         ? evaluate(model, set.contexts, stitch.policy, progress,
                                    {.positions = plan.positions, .coding = coding})
                         : evaluate_compressed(model, set.contexts, compressed, progress);
  if (!cells) return tl::unexpected(in_set(set, cells.error()));
  for (const auto& cell : *cells)
    found.push_back({.set = set.name, .stitch = stitch.name, .numbers = cell});
  return {};
}

result<void> evaluate_set(loaded_model& model, const named_set& set, const eval_plan& plan,
                          std::vector<eval_cell>& found) {
  for (const auto& named : plan.stitch)
    for (const auto coding : plan.codecs)
      if (auto done = evaluate_set(model, set, plan, named, coding, found); !done) return done;
  return {};
}

result<std::vector<eval_cell>> evaluate_chosen(loaded_model& model, const std::vector<named_set>& sets,
                                               const eval_options& options) {
  std::vector<eval_cell> found;
  const auto pool = options.pool == "set" ? document_pool::set : document_pool::context;
  for (const auto& set : sets) {
    const auto cells = evaluate_retrieved(model, set.contexts, options.retrieve, pool,
                                          logged_progress(set, "documents chosen of the " + options.pool));
    if (!cells) return tl::unexpected(in_set(set, cells.error()));
    for (const auto& cell : *cells)
      found.push_back({.set = set.name,
                       .stitch = "none",
                       .numbers = cell.answers,
                       .retrieved = retrieved_numbers{.chosen = cell.chosen,
                                                      .pool = options.pool,
                                                      .pool_documents = cell.pool_documents,
                                                      .recall = cell.recall,
                                                      .low = cell.recall_low,
                                                      .high = cell.recall_high}});
  }
  return found;
}

result<std::vector<eval_cell>> evaluate_sets(const eval_options& options, const eval_plan& plan) {
  auto sets = read_sets(options.input);
  if (!sets) return tl::unexpected(sets.error());
  auto model = load_model(options.input.model, plan.how);
  if (!model) return tl::unexpected(model.error());
  if (options.input.longest_tokens > 0) cut_middles(*sets, *model, options.input.longest_tokens);
  if (!options.retrieve.empty()) return evaluate_chosen(*model, *sets, options);
  if (!plan.sparse.empty()) return evaluate_sparse_runs(*model, *sets, plan.sparse, plan.compressed);
  std::vector<eval_cell> cells;
  for (const auto& set : *sets)
    if (auto done = evaluate_set(*model, set, plan, cells); !done) return tl::unexpected(done.error());
  return cells;
}

int run_eval(const eval_options& options, const command_context& context) {
  if (!options.suite.empty())
    return run_adaptive_suite(options.input, options.adaptive, options.report, context);
  const auto plan = plan_of(options);
  if (!plan) return report_wrong_use(plan.error().context);
  const auto cells = evaluate_sets(options, *plan);
  if (!cells) return report(cells.error());
  if (!options.report.empty()) {
    const auto title = "weft eval: " + options.input.model.filename().string();
    if (auto written = write_report(options.report, title, *cells); !written) return report(written.error());
    spdlog::info("wrote {}", (options.report / "report.md").string());
  }
  print_cells(*cells, context);
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
  command->add_option("--model", options->input.model, "model folder")->required();
  command->add_option("--set", options->input.sets, "sets of questions, weft's own or published ones")
      ->required();
  command->add_option("--format", options->input.format, "of the sets; auto: known by their first record")
      ->check(CLI::IsMember(set_format_names()))
      ->capture_default_str();
  command
      ->add_option("--max-tokens", options->input.longest_tokens,
                   "of a context's documents: longer ones lose their middle (default: they are refused)")
      ->check(CLI::Range(1U, 1'000'000'000U));
  command
      ->add_option("--suite", options->suite,
                   "adaptive: every online cache policy through bounded decode sessions, with a report")
      ->check(CLI::IsMember({"adaptive"}));
  command
      ->add_option("--methods", options->adaptive.methods,
                   "of the suite: some of its methods (atskv, h2o, ...; default: all)")
      ->delimiter(',');
  command
      ->add_option(
          "--parts", options->adaptive.parts,
          "of the suite: scores, memory (over 10,000 generated tokens), lengths (steps behind long prompts)")
      ->check(CLI::IsMember({"scores", "memory", "lengths"}))
      ->delimiter(',')
      ->capture_default_str();
  command->add_option(
      "--predictor", options->adaptive.predictor,
      "of the suite: file of relevance predictors (default: atskv.safetensors beside the model), or "
      "attention: a row is as relevant as the attention that it received");
  command->add_option("--train", options->adaptive.train,
                      "of the suite: sets to train relevance predictors on first (not those of --set)");
  command
      ->add_option("--units", options->adaptive.units, "of --train: hidden units of a predictor; 0: linear")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command
      ->add_option("--recall-room", options->adaptive.recall_room,
                   "of the suite: part of atskv's budget that is free for rows that come back")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  command
      ->add_option("--turn-part", options->adaptive.turn_part,
                   "of the suite: part of the layers that a step of atskv decides on; they take turns")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--ahead-part", options->adaptive.ahead_part,
                   "of the suite: part of the layers whose queries atskv estimates one layer ahead")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--sketch-bits", options->adaptive.sketch_bits,
                   "of the suite: bits for each channel by which atskv estimates the logits of rows in the "
                   "passive store; 0: bounds of their pages")
      ->check(CLI::Range(0, 4))
      ->capture_default_str();
  command->add_option("--page-rows", options->adaptive.page_rows, "of the suite: rows of a page")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option(
      "--store", options->adaptive.gateway,
      "of the suite: HOST:PORT of a cluster's gateway, to keep rows that left the decode cache in "
      "its pool (default: this process's memory)");
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
      ->add_option("--retrieve", options->retrieve,
                   "answer from the so many documents that fit the question best; recall beside the score "
                   "(documents stitched as `none`)")
      ->delimiter(',')
      ->check(CLI::Range(1U, 1'000'000'000U));
  command
      ->add_option("--pool", options->pool,
                   "of --retrieve: the documents of the whole set, or of the question's own context")
      ->check(CLI::IsMember({"set", "context"}))
      ->capture_default_str();
  command
      ->add_option("--importance", options->importance,
                   "keep rows by these policies before any question is asked: kvzip, kvzip_plus, "
                   "kvzap_linear, kvzap_mlp, snapkv, h2o, "
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
  command
      ->add_option("--scored", options->scored,
                   "what is scored at once: the context, or documents alone (with --retrieval: alone)")
      ->check(CLI::IsMember({"context", "alone"}))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "of --importance random")->capture_default_str();
  command
      ->add_option("--codec", options->codecs,
                   "what the rows that answers are read from are kept in: raw, int8, int4")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dtype", options->input.dtype, "cache: auto (as the weights), f32, bf16, f16")
      ->capture_default_str();
  command->add_option("--limit", options->input.limit, "contexts of each set (default: all)")
      ->check(CLI::Range(1U, 1'000'000'000U));
  command
      ->add_option("--questions", options->input.questions,
                   "questions of each context (default: all), so that contexts with many weigh no more")
      ->check(CLI::Range(1U, 1'000'000'000U));
  command->add_option("--threads", options->input.threads, "0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("--report", options->report,
                      "folder for a report: Markdown tables, plots of accuracy, bytes and time");
  on_run(command, context, [options, command, &context] {
    // As documents lie in a pool. A context that is scored as one is one text; documents that are scored
    // alone see only themselves.
    if (!options->sparse.policies.empty() && command->count("--scored") == 0) options->scored = "alone";
    if (!options->importance.empty() && command->count("--stitch") == 0)
      options->stitch = options->scored == "alone" ? "none" : "full";
    if (command->count("--ratio") > 0) options->adaptive.ratios = options->ratios;
    return run_eval(*options, context);
  });
}

}  // namespace weft::launcher::study
