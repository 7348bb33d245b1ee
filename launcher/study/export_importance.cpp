#include "export_importance.hpp"

#include <weft/engine/safetensors.hpp>
#include <weft/launcher/study/export_scores.hpp>
#include <weft/launcher/study/loaded_model.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "export_options.hpp"
#include "text_file.hpp"

#include <memory>

namespace weft::launcher::study {

namespace {

using nlohmann::json;

struct kept_options {
  std::filesystem::path scores, out;
  std::string budget = "global";
  std::string ratio;
  std::uint32_t protected_rows = 0;
};

std::vector<std::uint64_t> extents(const policies::score_shape& shape) {
  return {shape.layers, shape.kv_heads, shape.tokens};
}

engine::tensor_to_write kept_tensor(const policies::kept_rows& kept) {
  return {"kept", "U8", extents(kept.shape), std::as_bytes(std::span(kept.kept))};
}

result<void> write_scores(const export_options& options, const engine::runner_options& how) {
  const auto text = read_text_file(options.in);
  if (!text) return tl::unexpected(text.error());
  const auto input = json::parse(*text, nullptr, false);
  if (!input.is_object()) return fail(errc::invalid_argument, options.in.string() + " is no JSON object");
  auto model = engine::runner::load(options.model, how);
  if (!model) return tl::unexpected(model.error());
  const auto named = [&](const error& e) { return fail(e.code, options.in.string() + ": " + e.context); };
  const auto request = scores_request_from(input, model->config());
  if (!request) return named(request.error());
  const auto found = scores_of(*model, options.model, *request);
  if (!found) return named(found.error());
  std::vector<engine::tensor_to_write> tensors{
      {"scores", "F32", extents(found->scores.shape), std::as_bytes(std::span(found->scores.values))}};
  if (found->kept) tensors.push_back(kept_tensor(*found->kept));
  return engine::write_safetensors(options.out, tensors);
}

result<policies::budget> budget_of(const kept_options& options) {
  const auto kind = policies::budget_kind_from_name(options.budget);
  if (!kind) return fail(errc::invalid_argument, "--budget: " + kind.error().context);
  policies::budget wanted{.kind = *kind, .protected_rows = options.protected_rows};
  if (*kind == policies::budget_kind::threshold) {
    const auto number = json::parse(options.ratio, nullptr, false);
    if (!number.is_number()) return fail(errc::invalid_argument, "--ratio: a threshold is a number");
    wanted.least_score = number.get<float>();
    return wanted;
  }
  const auto ratio = policies::decimal_ratio::parse(options.ratio);
  if (!ratio) return fail(errc::invalid_argument, "--ratio: " + ratio.error().context);
  wanted.ratio = *ratio;
  return wanted;
}

result<void> write_kept(const kept_options& options, const policies::budget& wanted) {
  const auto scores = read_scores(options.scores);
  if (!scores) return tl::unexpected(scores.error());
  const auto kept = policies::keep_rows(*scores, wanted);
  if (!kept) return fail(kept.error().code, options.scores.string() + ": " + kept.error().context);
  const engine::tensor_to_write tensors[] = {kept_tensor(*kept)};
  return engine::write_safetensors(options.out, tensors);
}

}  // namespace

void add_scores_export(CLI::App& parent, command_context& context) {
  auto options = std::make_shared<export_options>();
  auto* command = add_command(
      parent, "scores",
      R"(importance of every row: {"tokens":[..],"segments"?,"policy","system"?,"options"?,"repeat"?,"chunks"?,"chunk_tokens"?,"budget"?})",
      "weft export scores --model models/recall --in input.json --out scores.safetensors", context);
  add_export_options(*command, *options);
  on_run(command, context, [options, &context] {
    const auto how = options_for_dtype(options->dtype, options->threads);
    if (!how) return report_wrong_use("--dtype: " + how.error().context);
    return report_written(write_scores(*options, *how), options->out, context);
  });
}

void add_kept_export(CLI::App& parent, command_context& context) {
  auto options = std::make_shared<kept_options>();
  auto* command =
      add_command(parent, "kept", "which rows a budget keeps of exported scores",
                  "weft export kept --scores scores.safetensors --budget global --ratio 0.3 --protected 4 "
                  "--out kept.safetensors",
                  context);
  command->add_option("--scores", options->scores, "output of `weft export scores`")->required();
  command->add_option("--budget", options->budget, "global, uniform, adakv, pyramid, head or threshold")
      ->capture_default_str();
  command->add_option("--ratio", options->ratio, "fraction kept (of threshold: the least score)")->required();
  command->add_option("--protected", options->protected_rows, "leading rows that are kept on top")
      ->capture_default_str();
  command->add_option("--out", options->out, "output (.safetensors)")->required();
  on_run(command, context, [options, &context] {
    const auto wanted = budget_of(*options);
    if (!wanted) return report_wrong_use(wanted.error().context);
    return report_written(write_kept(*options, *wanted), options->out, context);
  });
}

}  // namespace weft::launcher::study
