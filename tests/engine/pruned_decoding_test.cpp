#include <weft/engine/generation.hpp>
#include <weft/engine/pruned_decoding.hpp>
#include <weft/engine/sampler.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <map>
#include <random>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::policies::score_table;

namespace {

constexpr std::uint32_t window_tokens = 8;
constexpr float least_score = 0.1F;

std::vector<surrogate_layer> random_layers(const model_config& config, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.2F);
  std::vector<surrogate_layer> layers(config.layers);
  for (auto& layer : layers) {
    for (std::size_t i = 0; i < std::size_t{config.kv_heads} * config.hidden_size; ++i)
      layer.weights.push_back(normal(random));
    layer.bias.assign(config.kv_heads, 0);
  }
  return layers;
}

// Passes on what it is shown, and computes the scores of each position itself.
class witness final : public forward_observer {
 public:
  witness(const model_config& config, const std::vector<surrogate_layer>& layers, pruned_decoding& watched)
      : config_(config), layers_(layers), watched_(watched) {}

  void start(std::span<const std::int32_t> positions) { positions_ = positions; }

  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override {
    watched_.layer_input(layer, first_row, rows, normed);
    for (std::uint32_t row = 0; row < rows; ++row)
      for (std::uint32_t head = 0; head < config_.kv_heads; ++head) {
        double score = 0;
        for (std::size_t i = 0; i < config_.hidden_size; ++i)
          score += double{layers_[layer].weights[head * config_.hidden_size + i]} *
                   normed[row * config_.hidden_size + i];
        scores[layer * config_.kv_heads + head][positions_[first_row + row]] = score;
      }
  }

  std::map<std::size_t, std::map<std::int32_t, double>> scores;  // [head][position]

 private:
  const model_config& config_;
  const std::vector<surrogate_layer>& layers_;
  pruned_decoding& watched_;
  std::span<const std::int32_t> positions_;
};

// What must be left behind a token at `newest`: the window, and what was good enough when it left it.
std::vector<std::int32_t> left_by_definition(const std::map<std::int32_t, double>& scores,
                                             std::int32_t newest) {
  std::vector<std::int32_t> left;
  for (const auto& [position, score] : scores)
    if (position <= newest &&
        (position > newest - static_cast<std::int32_t>(window_tokens) || score >= least_score))
      left.push_back(position);
  return left;
}

}  // namespace

TEST_CASE("rows that score too little leave the cache when their token leaves the window") {
  auto options = exact_options();
  options.chunk_rows = 11;  // the prompt comes in parts
  auto model = load_fixture("qwen3", options);
  const auto layers = random_layers(model.config(), 4);
  auto guesser = surrogate::make(layers, model);
  REQUIRE(guesser);
  pruned_decoding pruning(model, *guesser, least_score, window_tokens);
  witness seen(model.config(), layers, pruning);
  kv_cache cache(model.cache_shape(), 80);
  kv_cache* const caches[] = {&cache};
  std::uint64_t dropped = 0;
  const auto pass = [&](const std::vector<token_id>& tokens, std::int32_t position) {
    row_batch batch;
    add_rows(batch, tokens, position);
    seen.start(batch.positions);
    REQUIRE(model.forward(batch, caches, {}, &seen));
    dropped += pruning.end_pass(cache, batch.positions);
    const auto newest = batch.positions.back();
    for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
      for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head) {
        const std::vector<std::int32_t> left(cache.positions(layer, head),
                                             cache.positions(layer, head) + cache.rows(layer, head));
        CHECK(left == left_by_definition(seen.scores[layer * cache.shape().kv_heads + head], newest));
      }
  };
  pass(some_tokens(40, 5), 0);
  CHECK(dropped > 0);
  const auto answer = some_tokens(30, 6);
  for (std::size_t i = 0; i < answer.size(); ++i)
    pass({answer[i]}, static_cast<std::int32_t>(40 + i));
  CHECK(dropped > 60);
}

TEST_CASE("the rows that stay keep their keys and values") {
  auto model = load_fixture("llama");
  const auto layers = random_layers(model.config(), 9);
  auto guesser = surrogate::make(layers, model);
  REQUIRE(guesser);
  kv_cache whole(model.cache_shape(), 50), pruned(model.cache_shape(), 50);
  row_batch batch;
  add_rows(batch, some_tokens(50, 2), 0);
  kv_cache* caches[] = {&whole};
  REQUIRE(model.forward(batch, caches, {}));
  pruned_decoding pruning(model, *guesser, least_score, window_tokens);
  caches[0] = &pruned;
  REQUIRE(model.forward(batch, caches, {}, &pruning));
  REQUIRE(pruning.end_pass(pruned, batch.positions) > 0);
  const std::size_t row_bytes = whole.shape().head_dim * weft::kernels::size_bytes(whole.shape().dtype);
  for (std::uint32_t layer = 0; layer < whole.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < whole.shape().kv_heads; ++head)
      for (std::uint32_t row = 0; row < pruned.rows(layer, head); ++row) {
        const auto at = static_cast<std::size_t>(pruned.positions(layer, head)[row]);
        CHECK(std::memcmp(pruned.k(layer, head) + row * row_bytes, whole.k(layer, head) + at * row_bytes,
                          row_bytes) == 0);
        CHECK(std::memcmp(pruned.v(layer, head) + row * row_bytes, whole.v(layer, head) + at * row_bytes,
                          row_bytes) == 0);
        CHECK(pruned.segments(layer, head)[row] == whole.segments(layer, head)[at]);
      }
}

TEST_CASE("rows before those that are judged stay, and are not counted") {
  auto model = load_fixture("llama");
  auto guesser = surrogate::make(random_layers(model.config(), 9), model);
  REQUIRE(guesser);
  pruned_decoding pruning(model, *guesser, 1e9F, window_tokens);  // nothing is good enough
  kv_cache cache(model.cache_shape(), 50);
  kv_cache* const caches[] = {&cache};
  row_batch batch;
  add_rows(batch, some_tokens(50, 2), 0);
  REQUIRE(model.forward(batch, caches, {}, &pruning));
  const auto judged = std::span(batch.positions).last(20);
  const std::uint64_t heads = std::uint64_t{model.config().layers} * model.config().kv_heads;
  CHECK(pruning.end_pass(cache, judged) == (20 - window_tokens) * heads);
  CHECK(pruning.judged_rows() == (20 - window_tokens) * heads);
  CHECK(pruning.dropped_rows() == pruning.judged_rows());
  CHECK(cache.rows(0, 0) == 30 + window_tokens);
  CHECK(cache.positions(0, 0)[29] == 29);
  CHECK(cache.positions(0, 0)[30] == 50 - static_cast<std::int32_t>(window_tokens));
}

TEST_CASE("sessions that decode together are pruned each by itself") {
  auto model = load_fixture("llama");
  const auto layers = random_layers(model.config(), 4);
  auto guesser = surrogate::make(layers, model);
  REQUIRE(guesser);
  const std::uint32_t vocab = model.config().vocab_size;
  constexpr std::uint32_t answer_tokens = 25;
  struct started {
    kv_cache cache;
    std::vector<float> logits;
  };
  const auto start = [&](std::uint32_t seed, pruned_decoding* pruning) {
    started s{kv_cache(model.cache_shape(), 60), std::vector<float>(vocab)};
    row_batch batch;
    add_rows(batch, some_tokens(30, seed), 0);
    batch.logits_rows = {29};
    kv_cache* const caches[] = {&s.cache};
    REQUIRE(model.forward(batch, caches, s.logits, pruning));
    if (pruning != nullptr) pruning->end_pass(s.cache, batch.positions);
    return s;
  };
  // One after the other, by hand.
  const auto alone = [&](std::uint32_t seed, pruned_decoding* pruning) {
    auto s = start(seed, pruning);
    kv_cache* const caches[] = {&s.cache};
    std::vector<token_id> tokens{greedy_token(s.logits)};
    row_batch row;
    while (tokens.size() < answer_tokens) {
      row.clear();
      row.add(tokens.back(), static_cast<std::int32_t>(29 + tokens.size()), 0);
      row.logits_rows = {0};
      REQUIRE(model.forward(row, caches, s.logits, pruning));
      if (pruning != nullptr) pruning->end_pass(s.cache, row.positions);
      tokens.push_back(greedy_token(s.logits));
    }
    return std::pair{tokens, s.cache.rows(0, 1)};
  };
  pruned_decoding one(model, *guesser, least_score, window_tokens);
  pruned_decoding two(model, *guesser, -1e9F, window_tokens);
  const auto first = alone(1, &one);
  const auto second = alone(2, nullptr);
  CHECK(first.second < 30 + answer_tokens - 1);

  pruned_decoding again(model, *guesser, least_score, window_tokens);
  decode_batch batch(model);
  auto a = start(1, &again);
  auto b = start(2, nullptr);
  auto c = start(2, &two);
  const generation_options options{.sampled = {}, .stop_tokens = {}, .max_tokens = answer_tokens};
  std::vector<std::vector<token_id>> tokens(3);
  tokens[0].push_back(batch.add(0, std::move(a.cache), 30, a.logits, options, nullptr, &again)->token);
  tokens[1].push_back(batch.add(1, std::move(b.cache), 30, b.logits, options)->token);
  tokens[2].push_back(batch.add(2, std::move(c.cache), 30, c.logits, options, nullptr, &two)->token);
  while (batch.active() > 0) {
    const auto made = batch.step();
    REQUIRE(made);
    for (const auto& token : *made)
      tokens[token.session].push_back(token.token);
  }
  CHECK(tokens[0] == first.first);
  CHECK(tokens[1] == second.first);
  CHECK(tokens[2] == second.first);
  CHECK(again.dropped_rows() == one.dropped_rows());
  CHECK(two.dropped_rows() == 0);
  CHECK(batch.remove(0)->rows(0, 1) == first.second);
  CHECK(batch.remove(2)->rows(0, 1) == 30 + answer_tokens - 1);
}

TEST_CASE("a context that was scored before hands its last tokens to the window") {
  auto model = load_fixture("llama");
  auto guesser = surrogate::make(random_layers(model.config(), 1), model);
  REQUIRE(guesser);
  const auto& config = model.config();
  score_table scores({config.layers, config.kv_heads, 20});
  std::fill(scores.values.begin(), scores.values.end(), least_score - 1);
  kv_cache cache(model.cache_shape(), 21);
  kv_cache* const caches[] = {&cache};
  row_batch batch;
  add_rows(batch, some_tokens(20, 2), 0);
  REQUIRE(model.forward(batch, caches, {}));
  pruned_decoding pruning(model, *guesser, least_score, window_tokens);
  pruning.start(scores);
  batch.clear();
  add_rows(batch, {3}, 20);
  REQUIRE(model.forward(batch, caches, {}, &pruning));
  // Only the token that this one pushed out of the window is judged.
  CHECK(pruning.end_pass(cache, batch.positions) == config.layers * config.kv_heads);
  CHECK(cache.rows(0, 0) == 20);
  for (std::int32_t row = 0; row < 20; ++row)
    CHECK(cache.positions(0, 0)[row] == (row < 12 ? row : row + 1));
}
