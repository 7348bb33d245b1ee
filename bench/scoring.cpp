#include <weft/bench/scoring.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/kernels/products.hpp>

#include "interleaved.hpp"
#include "llama_shape.hpp"
#include "machine.hpp"

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace weft::bench {

namespace {

constexpr std::uint32_t chunk_tokens = 2000;
constexpr std::uint32_t prompt_tokens = 24;  // what a chat model is asked to repeat with

template <class T>
T value_of(result<T> r) {
  if (!r) throw std::runtime_error(to_string(r.error()));
  if constexpr (!std::is_void_v<T>) return std::move(*r);
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

class scoring_run {
 public:
  explicit scoring_run(const scoring_options& options)
      : options_(options),
        model_(value_of(engine::runner::with_random_weights(some_layers(options.layers),
                                                            {.threads = options.threads}, 1))),
        scorer_(model_) {
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
    std::vector<double> prefills, scorings, ratios;
    prefill(cache, tokens);
    for (unsigned round = 0; round < options_.rounds; ++round) {
      const double before = seconds_of([&] { prefill(cache, tokens); });
      cache.truncate(0);
      const double both = seconds_of([&] { value_of(scorer_.score(cache, request)); });
      const double after = seconds_of([&] { prefill(cache, tokens); });
      prefills.push_back((before + after) / 2);
      scorings.push_back(both - prefills.back());
      ratios.push_back(prefills.back() / scorings.back());
    }
    report_row row{.name = "kvzip scores of " + std::to_string(count) + " tokens, " +
                           std::to_string(options_.layers) + " layers of Llama-3.2-1B",
                   .operation = "scoring",
                   .limit_name = "the speed of their prefill",
                   .ratio = median(ratios),
                   .tokens_per_s = count / median(scorings),
                   .tokens = count};
    if (options_.progress) options_.progress(row);
    report_.rows.push_back(std::move(row));
  }

  void prefill(engine::kv_cache& cache, const std::vector<engine::token_id>& tokens) {
    cache.truncate(0);
    engine::row_batch batch;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      batch.add(tokens[i], static_cast<std::int32_t>(i), 1);
    engine::kv_cache* const caches[] = {&cache};
    value_of(model_.forward(batch, caches, {}));
  }

  const scoring_options& options_;
  engine::runner model_;
  engine::row_scorer scorer_;
  engine::repeat_prompt prompt_;
  report report_;
};

}  // namespace

report run_scoring(const scoring_options& options) {
  return scoring_run(options).run();
}

}  // namespace weft::bench
