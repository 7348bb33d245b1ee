#include <weft/bench/scoring.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/engine/surrogate.hpp>
#include <weft/kernels/products.hpp>

#include "interleaved.hpp"
#include "llama_shape.hpp"
#include "machine.hpp"
#include "value_of.hpp"

#include <array>
#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace weft::bench {

namespace {

constexpr std::uint32_t chunk_tokens = 2000;
constexpr std::uint32_t prompt_tokens = 24;  // what a chat model is asked to repeat with

// Processor time of all threads: the ratio of two such is disturbed less by others on the machine.
template <class Task>
double work_of(Task&& task) {
  const std::clock_t start = std::clock();
  task();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

engine::model_config some_layers(std::uint32_t layers) {
  auto config = llama_3_2_1b();
  config.layers = layers;
  config.vocab_size = 4096;  // neither pass has logits
  return config;
}

std::vector<engine::token_id> some_tokens(std::uint32_t count) {
  std::vector<engine::token_id> tokens;
  for (std::uint32_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<engine::token_id>(std::uint64_t{i} * 7919 % 4096));
  return tokens;
}

// Weights of no particular value: what a guess costs does not depend on them.
engine::surrogate some_surrogate(engine::runner& model, std::uint32_t hidden) {
  const engine::model_config& config = model.config();
  const std::uint32_t inputs = hidden == 0 ? config.hidden_size : hidden;
  const engine::surrogate_layer layer{
      .hidden_weights = std::vector<float>(std::size_t{hidden} * config.hidden_size, 0.01F),
      .hidden_bias = std::vector<float>(hidden, 0.1F),
      .weights = std::vector<float>(std::size_t{config.kv_heads} * inputs, 0.02F),
      .bias = std::vector<float>(config.kv_heads, 0.1F)};
  return value_of(engine::surrogate::make(std::vector(config.layers, layer), model));
}

// Guesses while a context is computed, as scoring by KVzap does, and says how long that took.
class guess_timer final : public engine::forward_observer {
 public:
  explicit guess_timer(engine::runner& model)
      : heads_(model.config().kv_heads),
        surrogates_{some_surrogate(model, 0), some_surrogate(model, model.config().hidden_size / 8)} {}

  void layer_input(std::uint32_t layer, std::uint32_t /*first_row*/, std::uint32_t rows,
                   const float* normed) override {
    guesses_.resize(std::size_t{rows} * heads_);
    for (std::size_t kind = 0; kind < surrogates_.size(); ++kind)
      seconds_[kind] += work_of([&] { surrogates_[kind].guess(layer, normed, rows, guesses_); });
  }

  // Of the linear one and of the network since the last call.
  std::array<double, 2> take_seconds() { return std::exchange(seconds_, {}); }

 private:
  std::uint32_t heads_;
  std::array<engine::surrogate, 2> surrogates_;
  std::array<double, 2> seconds_{};
  std::vector<float> guesses_;
};

class scoring_run {
 public:
  explicit scoring_run(const scoring_options& options)
      : options_(options),
        model_(value_of(engine::runner::with_random_weights(some_layers(options.layers),
                                                            {.threads = options.threads}, 1))),
        scorer_(model_),
        guesses_(model_) {
    prompt_.prefix = some_tokens(prompt_tokens / 2);
    prompt_.suffix = some_tokens(prompt_tokens / 2);
  }

  report run() {
    report_.machine = {cpu_name(), model_.threads().threads(), kernels::native_bf16_products()};
    for (const std::uint32_t tokens : options_.tokens)
      measure(tokens);
    return std::move(report_);
  }

 private:
  void measure(std::uint32_t count) {
    const auto tokens = some_tokens(count);
    const engine::scoring_request request{
        .tokens = tokens, .repeat = &prompt_, .chunks = engine::chunks_of(0, count, chunk_tokens)};
    engine::kv_cache cache(model_.cache_shape(), engine::scoring_capacity_rows(request));
    std::vector<double> prefills, scorings, ratios;  // processor time, but for:
    std::vector<double> seconds;
    prefill(cache, tokens, &guesses_);
    const auto guessing = guesses_.take_seconds();
    for (unsigned round = 0; round < options_.rounds; ++round) {
      double before = 0, both = 0, after = 0;
      const double first = seconds_of([&] { before = work_of([&] { prefill(cache, tokens); }); });
      cache.truncate(0);
      const double all =
          seconds_of([&] { both = work_of([&] { value_of(scorer_.score(cache, request)); }); });
      const double last = seconds_of([&] { after = work_of([&] { prefill(cache, tokens); }); });
      seconds.push_back(all - (first + last) / 2);
      prefills.push_back((before + after) / 2);
      scorings.push_back(both - prefills.back());
      ratios.push_back(prefills.back() / scorings.back());
    }
    report_row row{.name = "kvzip scores of " + std::to_string(count) + " tokens, " +
                           std::to_string(options_.layers) + " layers of Llama-3.2-1B",
                   .operation = "scoring",
                   .limit_name = "the speed of their prefill",
                   .ratio = median(ratios),
                   .tokens_per_s = count / median(seconds),
                   .tokens = count};
    add(std::move(row));
    for (const std::size_t kind : {0U, 1U})
      add({.name = std::string{kind == 0 ? "kvzap_linear" : "kvzap_mlp"} + " scores of " +
                   std::to_string(count) + " tokens beside their prefill",
           .operation = "scoring",
           .limit_name = "the speed of their prefill",
           .ratio = median(prefills) / guessing[kind],
           .tokens_per_s = count * model_.threads().threads() / guessing[kind],
           .tokens = count});
  }

  void add(report_row row) {
    if (options_.progress) options_.progress(row);
    report_.rows.push_back(std::move(row));
  }

  void prefill(engine::kv_cache& cache, const std::vector<engine::token_id>& tokens,
               engine::forward_observer* observer = nullptr) {
    cache.truncate(0);
    engine::row_batch batch;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      batch.add(tokens[i], static_cast<std::int32_t>(i), 1);
    engine::kv_cache* const caches[] = {&cache};
    value_of(model_.forward(batch, caches, {}, observer));
  }

  const scoring_options& options_;
  engine::runner model_;
  engine::row_scorer scorer_;
  guess_timer guesses_;
  engine::repeat_prompt prompt_;
  report report_;
};

}  // namespace

report run_scoring(const scoring_options& options) {
  return scoring_run(options).run();
}

}  // namespace weft::bench
