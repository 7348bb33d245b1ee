#include <weft/engine/head_scores.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "head_scores.hpp"
#include "study_commands.hpp"
#include "surrogate_training.hpp"

#include <chrono>
#include <cstdio>
#include <memory>

namespace weft::launcher::study {

namespace {

using nlohmann::json;

struct surrogate_options {
  std::filesystem::path model;
  std::string kind = "mlp";
  std::filesystem::path out;
  std::filesystem::path surrogate;
  std::size_t memory_mib = 1024;
  unsigned threads = 0;
  surrogate_training how;
};

training_progress logged() {
  return [](std::size_t done) {
    if (done % 50 == 0) spdlog::info("{} texts", done);
  };
}

json json_of(const surrogate_quality& quality) {
  json layers = json::array();
  for (std::size_t layer = 0; layer < quality.layers.size(); ++layer)
    layers.push_back(
        {{"layer", layer}, {"r2", quality.layers[layer].r2}, {"heads", quality.layers[layer].heads}});
  return {{"texts", quality.texts},
          {"pairs", quality.pairs},
          {"held_out_texts", quality.held_out_texts},
          {"held_out_pairs", quality.held_out_pairs},
          {"layers", layers}};
}

void print_table(const surrogate_quality& quality) {
  std::printf("%-6s %7s  R^2 by KV head, on %zu held-out tokens\n", "layer", "R^2", quality.held_out_pairs);
  for (std::size_t layer = 0; layer < quality.layers.size(); ++layer) {
    std::printf("%-6zu %7.3f ", layer, quality.layers[layer].r2);
    for (const double head : quality.layers[layer].heads)
      std::printf(" %.3f", head);
    std::printf("\n");
  }
}

void print_quality(const surrogate_options& options, const surrogate_quality& quality,
                   const std::filesystem::path& file, double seconds, const command_context& context) {
  if (context.json) {
    auto document = json_of(quality);
    document["kind"] = options.kind;
    document["file"] = file.string();
    document["seconds"] = seconds;
    print_json(document);
    return;
  }
  print_table(quality);
  std::printf("%s\n", file.string().c_str());
}

result<loaded_model> opened_model(const surrogate_options& options) {
  const auto how = options_for_dtype("f32", options.threads);
  return load_model(options.model, *how);
}

double seconds_since(std::chrono::steady_clock::time_point started) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

int run_train(surrogate_options options, const command_context& context) {
  const auto started = std::chrono::steady_clock::now();
  options.how.kind = *engine::surrogate_kind_from_name(options.kind);
  options.how.memory_bytes = options.memory_mib << 20U;
  auto model = opened_model(options);
  if (!model) return report(model.error());
  const auto trained = train_surrogate(*model, options.how, logged());
  if (!trained) return report(trained.error());
  if (options.out.empty()) options.out = engine::surrogate_file(options.model, options.how.kind);
  if (auto written = engine::write_surrogate(options.out, trained->layers, model->runner); !written)
    return report(written.error());
  print_quality(options, trained->quality, options.out, seconds_since(started), context);
  return exit_done;
}

int run_evaluate(surrogate_options options, const command_context& context) {
  const auto started = std::chrono::steady_clock::now();
  auto model = opened_model(options);
  if (!model) return report(model.error());
  if (options.surrogate.empty())
    options.surrogate =
        engine::surrogate_file(options.model, *engine::surrogate_kind_from_name(options.kind));
  auto guesser = engine::surrogate::load(options.surrogate, model->runner);
  if (!guesser) return report(guesser.error());
  const auto quality = evaluate_surrogate(*model, *guesser, options.how, logged());
  if (!quality) return report(quality.error());
  print_quality(options, *quality, options.surrogate, seconds_since(started), context);
  return exit_done;
}

int run_heads(surrogate_options options, const command_context& context) {
  auto model = opened_model(options);
  if (!model) return report(model.error());
  constexpr std::size_t bytes_per_token = 4;
  const auto scores =
      head_scores_from(*model, options.how.texts, options.how.tokens * bytes_per_token, logged());
  if (!scores) return report(scores.error());
  if (options.out.empty()) options.out = engine::head_scores_file(options.model);
  if (auto written = engine::write_head_scores(options.out, *scores, model->runner); !written)
    return report(written.error());
  if (context.json) {
    print_json({{"file", options.out.string()}, {"scores", *scores}});
    return exit_done;
  }
  const std::size_t heads = model->runner.config().kv_heads;
  for (std::size_t i = 0; i < scores->size(); ++i)
    std::printf("layer %zu head %zu: %.6g\n", i / heads, i % heads, (*scores)[i]);
  std::printf("%s\n", options.out.string().c_str());
  return exit_done;
}

void add_text_options(CLI::App& command, surrogate_options& options) {
  command.add_option("--model", options.model, "model folder")->required();
  command
      .add_option(
          "--text", options.how.texts,
          R"(texts, or .jsonl with {"text"} (a document) or {"documents":[..]} (a context) in a line)")
      ->required();
  command
      .add_option("--tokens", options.how.tokens, "length of the pieces that plain text is cut into, about")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str();
  command.add_option("--threads", options.threads, "0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

void add_shared_options(CLI::App& command, surrogate_options& options) {
  add_text_options(command, options);
  command
      .add_option("--kind", options.kind,
                  "linear, or mlp: one hidden layer of an eighth of the model's width")
      ->check(CLI::IsMember({"linear", "mlp"}))
      ->capture_default_str();
  command.add_option("--rows", options.how.rows_per_text, "tokens of each text that count, chosen at random")
      ->check(CLI::Range(1U, 1'000'000'000U))
      ->capture_default_str();
  command.add_option("--seed", options.how.seed, "of what is chosen at random")->capture_default_str();
}

}  // namespace

void add_surrogate_command(CLI::App& app, command_context& context) {
  auto* group = app.add_subcommand("surrogate", "KVzap: guess importance from hidden states");
  group->require_subcommand(1);
  auto options = std::make_shared<surrogate_options>();
  auto* train =
      add_command(*group, "train", "learn to guess a model's KVzip+ scores from texts",
                  "weft surrogate train --model models/recall --text texts.jsonl --kind linear --out "
                  "models/recall/kvzap_linear.safetensors",
                  context);
  add_shared_options(*train, *options);
  train->add_option("--held-out", options->how.held_out,
                    "texts to measure on (default: every tenth of --text)");
  train->add_option("--out", options->out, "output (default: beside the model, where it is looked for)");
  train
      ->add_option("--memory", options->memory_mib,
                   "MiB for the rows that a network learns from; of more, a random sample")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  on_run(train, context, [options, &context] { return run_train(*options, context); });

  auto measured = std::make_shared<surrogate_options>();
  auto* evaluate =
      add_command(*group, "evaluate", "how much of the scores' variance a surrogate explains, layer by layer",
                  "weft surrogate evaluate --model models/recall --text texts.jsonl --kind linear", context);
  add_shared_options(*evaluate, *measured);
  evaluate->add_option("--surrogate", measured->surrogate,
                       "file of the surrogate (default: the model's own)");
  on_run(evaluate, context, [measured, &context] { return run_evaluate(*measured, context); });

  auto worth = std::make_shared<surrogate_options>();
  auto* heads = add_command(*group, "heads", "what each head is worth, for the budget `head`",
                            "weft surrogate heads --model models/recall --text texts.jsonl", context);
  add_text_options(*heads, *worth);
  heads->add_option("--out", worth->out, "output (default: beside the model, where it is looked for)");
  on_run(heads, context, [worth, &context] { return run_heads(*worth, context); });
}

}  // namespace weft::launcher::study
