#include "adaptive_suite.hpp"

#include <weft/base/shortest_decimal.hpp>
#include <weft/engine/adaptive/session.hpp>
#include <weft/launcher/study/pool_passive_store.hpp>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "relevance_training.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <utility>

namespace weft::launcher::study {

namespace {

namespace adaptive = policies::adaptive;
using adaptive::budget_scope;
using adaptive::feature_set;
using adaptive::method;
using nlohmann::json;

constexpr std::uint32_t long_prompt_tokens = 512;
constexpr std::uint32_t long_generation_tokens = 10'000;
constexpr std::uint32_t long_rows = 256;
constexpr float never = 2.0F;  // a share that no page reaches

std::vector<adaptive_run> every_method() {
  std::vector<adaptive_run> runs;
  for (const method chosen : adaptive::all_methods())
    if (chosen != method::atskv)
      runs.push_back({.name = std::string{adaptive::name_of(chosen)}, .method = chosen});
  for (const method chosen : {method::h2o, method::snapkv, method::oracle, method::random})
    runs.push_back({.name = std::string{adaptive::name_of(chosen)} + " global",
                    .method = chosen,
                    .scope = budget_scope::global});
  for (const auto kind : {engine::surrogate_kind::linear, engine::surrogate_kind::mlp})
    runs.push_back({.name = "kvzap " + std::string{engine::name_of(kind)},
                    .scope = budget_scope::global,
                    .kvzap = kind});
  runs.push_back({.name = "atskv", .method = method::atskv, .scope = budget_scope::global});
  runs.push_back({.name = "atskv published",
                  .method = method::atskv,
                  .scope = budget_scope::layer,
                  .recall_share = never});
  return runs;
}

std::vector<adaptive_run> every_ablation() {
  std::vector<adaptive_run> runs;
  const auto add = [&](std::string name, auto change) {
    adaptive_run run{.name = "atskv " + std::move(name),
                     .method = method::atskv,
                     .scope = budget_scope::global,
                     .ablation = true};
    change(run);
    runs.push_back(std::move(run));
  };
  add("without store", [](auto& run) { run.passive = false; });
  add("layer", [](auto& run) { run.scope = budget_scope::layer; });
  add("layer, without store", [](auto& run) {
    run.scope = budget_scope::layer;
    run.passive = false;
  });
  add("bounds", [](auto& run) { run.sketch_bits = 0; });
  add("smoothed only", [](auto& run) { run.recall_share = never; });
  for (const auto& [name, set] : {std::pair{"without a", feature_set::without_attention},
                                  std::pair{"without f", feature_set::without_facts},
                                  std::pair{"without h", feature_set::without_hidden},
                                  std::pair{"recency only", feature_set::age_only}}) {
    add(name, [set = set](auto& run) { run.features = set; });
    add(std::string{name} + ", without store", [set = set](auto& run) {
      run.features = set;
      run.passive = false;
    });
  }
  return runs;
}

json json_of(const suite_cell& found) {
  const auto& cell = found.cell;
  return {{"set", found.set},
          {"task", cell.answers.task},
          {"method", cell.run.name},
          {"scope", adaptive::name_of(cell.run.scope)},
          {"ratio", cell.run.ratio},
          {"ablation", cell.run.ablation},
          {"n", cell.answers.n},
          {"score", cell.answers.score},
          {"low", cell.answers.low},
          {"high", cell.answers.high},
          {"attention", cell.attention},
          {"bytes", cell.resident_bytes},
          {"summary_bytes", cell.summary_bytes},
          {"full_bytes", cell.full_bytes},
          {"state_bytes", cell.state_bytes},
          {"moved_bytes", cell.moved_bytes},
          {"promoted_rows", cell.promoted_rows},
          {"promotions", cell.promotions},
          {"promotions_on_time", cell.on_time},
          {"lost_pages", cell.lost_pages},
          {"step_ms", cell.step_ms},
          {"ttft_ms", cell.ttft_ms},
          {"tokens_per_s", cell.tokens_per_s}};
}

json json_of(const memory_point& point) {
  return {{"method", point.name},
          {"tokens", point.tokens},
          {"bytes", point.resident_bytes},
          {"state_bytes", point.state_bytes},
          {"step_ms", point.step_ms}};
}

void print_results(const suite_results& results, const command_context& context) {
  if (context.json) {
    json document{{"cells", json::array()}, {"memory", json::array()}, {"lengths", json::array()}};
    for (const auto& cell : results.cells)
      document["cells"].push_back(json_of(cell));
    for (const auto& point : results.memory)
      document["memory"].push_back(json_of(point));
    for (const auto& point : results.lengths)
      document["lengths"].push_back(json_of(point));
    print_json(document);
    return;
  }
  std::printf("%-12s %-8s %-34s %5s %5s %6s %15s %7s %10s %6s %10s %7s %8s %8s\n", "set", "task", "method",
              "ratio", "n", "score", "95 %", "attent.", "bytes", "of all", "moved", "promot.", "step ms",
              "ttft ms");
  for (const auto& [set, cell] : results.cells)
    std::printf("%-12s %-8s %-34s %5g %5zu %6.1f %6.1f – %6.1f %7.3f %10.0f %6.3f %10.0f %7.1f %8.3f %8.1f\n",
                set.c_str(), cell.answers.task.c_str(), cell.run.name.c_str(), cell.run.ratio, cell.answers.n,
                cell.answers.score, cell.answers.low, cell.answers.high, cell.attention, cell.resident_bytes,
                cell.resident_bytes / std::max(1.0, cell.full_bytes), cell.moved_bytes, cell.promotions,
                cell.step_ms, cell.ttft_ms);
}

const adaptive_run* run_named(const std::vector<adaptive_run>& runs, const std::string& name) {
  const auto found = std::ranges::find(runs, name, &adaptive_run::name);
  return found == runs.end() ? nullptr : &*found;
}

bool has_part(const adaptive_suite_options& options, const std::string& part) {
  return std::ranges::find(options.parts, part) != options.parts.end();
}

// What a session holds while it generates, and what steps cost behind prompts of several lengths.
result<void> measure_lengths(loaded_model& model, const std::vector<adaptive_run>& runs,
                             const adaptive_suite_options& options,
                             const engine::relevance_predictors& predictors, suite_results& results) {
  for (const char* const name : {"full", "streaming_llm", "h2o", "quest", "atskv", "atskv without store"}) {
    const auto* const run = run_named(runs, name);
    if (run == nullptr) continue;
    spdlog::info("{}: {} tokens, and prompts of 512 to 8192", name, long_generation_tokens);
    if (has_part(options, "memory")) {
      const auto grown =
          generate_long(model, *run, long_prompt_tokens, long_generation_tokens, long_rows, 20, predictors);
      if (!grown) return tl::unexpected(grown.error());
      results.memory.insert(results.memory.end(), grown->begin(), grown->end());
    }
    if (!has_part(options, "lengths")) continue;
    for (const std::uint32_t tokens : {512U, 1024U, 2048U, 4096U, 8192U}) {
      const auto behind = generate_long(model, *run, tokens, 100, long_rows, 1, predictors);
      if (!behind) return tl::unexpected(behind.error());
      results.lengths.insert(results.lengths.end(), behind->begin(), behind->end());
    }
  }
  return {};
}

result<engine::relevance_predictors> untrained(const engine::runner& model) {
  return engine::relevance_predictors{
      {feature_set::all, std::make_shared<adaptive::relevance_predictor>(
                             adaptive::attention_predictor(engine::session_shape_of(model.config())))}};
}

result<suite_results> measure(const eval_input& input, const adaptive_suite_options& options) {
  const auto sets = read_sets(input);
  if (!sets) return tl::unexpected(sets.error());
  const auto how = options_for_dtype(input.dtype, input.threads);
  if (!how) return tl::unexpected(how.error());
  auto model = load_model(input.model, *how);
  if (!model) return tl::unexpected(model.error());
  const auto file = options.predictor.empty() ? input.model / "atskv.safetensors" : options.predictor;
  if (!options.train.empty()) {
    auto texts = input;
    texts.sets = options.train;
    if (auto trained = train_relevance_predictors({texts, file, options.units}); !trained)
      return tl::unexpected(trained.error());
  }
  const auto predictors = options.predictor == "attention"
                              ? untrained(model->runner)
                              : engine::read_relevance_predictors(file, model->runner.config());
  if (!predictors) return tl::unexpected(predictors.error());

  // Sessions of different processes must not meet in the pool.
  std::optional<client::connection> cluster;
  std::uint64_t session = (std::uint64_t{std::random_device{}()} << 32U);
  store_factory make_store;
  if (!options.gateway.empty()) {
    auto reached = client::connect(options.gateway);
    if (!reached) return tl::unexpected(reached.error());
    cluster.emplace(std::move(*reached));
    make_store = [&] {
      return std::make_unique<pool_passive_store>(*cluster, session++, std::chrono::seconds(2));
    };
  }

  auto runs = adaptive_runs(options.ratios, options.methods);
  // Who names a method hears what it lacks; else what a model has not got is left out.
  if (options.methods.empty())
    std::erase_if(runs, [&](const adaptive_run& run) {
      return run.kvzap && !std::filesystem::exists(engine::surrogate_file(input.model, *run.kvzap));
    });
  for (auto& run : runs) {
    run.recall_room = options.recall_room;
    run.turn_part = options.turn_part;
    run.ahead_part = options.ahead_part;
    if (run.sketch_bits > 0) run.sketch_bits = options.sketch_bits;
    run.page_rows = options.page_rows;
  }
  suite_results results;
  for (const auto& set : *sets) {
    if (!has_part(options, "scores")) break;
    const auto cells = evaluate_adaptive(*model, set.contexts, runs, *predictors,
                                         logged_progress(set, "suite adaptive"), make_store);
    if (!cells) return tl::unexpected(in_set(set, cells.error()));
    for (const auto& cell : *cells)
      results.cells.push_back({set.name, cell});
  }
  if (auto done = measure_lengths(*model, runs, options, *predictors, results); !done)
    return tl::unexpected(done.error());
  return results;
}

}  // namespace

std::vector<adaptive_run> adaptive_runs(const std::vector<double>& ratios,
                                        const std::vector<std::string>& names) {
  std::vector<adaptive_run> runs;
  const auto wanted = [&](const std::string& name) {
    return names.empty() || std::ranges::find(names, name) != names.end();
  };
  for (auto run : every_method()) {
    if (!wanted(run.name)) continue;
    for (const double ratio : ratios) {
      const bool everything = run.method == method::full && !run.kvzap;
      run.ratio = everything ? 1 : ratio;
      runs.push_back(run);
      if (everything) break;
    }
  }
  for (auto run : every_ablation()) {
    if (!wanted(run.name)) continue;
    run.ratio = ratios[std::min<std::size_t>(1, ratios.size() - 1)];
    runs.push_back(run);
  }
  return runs;
}

int run_adaptive_suite(const eval_input& input, const adaptive_suite_options& options,
                       const std::filesystem::path& report_folder, const command_context& context) {
  for (const double ratio : options.ratios)
    if (!(ratio > 0 && ratio <= 1))
      return report_wrong_use("--ratio " + shortest_decimal(ratio) +
                              " is no share of rows; give one above 0, up to 1");
  if (options.ratios.empty()) return report_wrong_use("--ratio names no budget; give one above 0, up to 1");
  for (const auto& name : options.methods) {
    const auto all = adaptive_runs({1.0}, {});
    if (run_named(all, name) != nullptr) continue;
    std::string known;
    for (const auto& run : all)
      known += (known.empty() ? "" : "; ") + run.name;
    return report_wrong_use("--methods: no `" + name + "`; there are " + known);
  }
  const auto results = measure(input, options);
  if (!results) return report(results.error());
  if (!report_folder.empty()) {
    const auto title = "weft eval --suite adaptive: " + input.model.filename().string();
    if (auto written = write_adaptive_report(report_folder, title, *results); !written)
      return report(written.error());
    spdlog::info("wrote {}", (report_folder / "report.md").string());
  }
  print_results(*results, context);
  return exit_done;
}

}  // namespace weft::launcher::study
