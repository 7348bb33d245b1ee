#include <weft/engine/scoring.hpp>
#include <weft/engine/surrogate.hpp>

#include <doctest/doctest.h>

#include "importance_reference.hpp"
#include "random_surrogate.hpp"
#include "small_models.hpp"
#include "temporary_folder.hpp"

#include <cmath>
#include <filesystem>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::policies::importance_policy;
using weft::policies::score_table;

namespace {

double gelu_of(double x) {
  return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
}

// A product with a bias, in double precision.
std::vector<double> product(const std::vector<float>& weights, const std::vector<float>& bias,
                            const std::vector<double>& in) {
  std::vector<double> out(bias.begin(), bias.end());
  for (std::size_t row = 0; row < out.size(); ++row)
    for (std::size_t i = 0; i < in.size(); ++i)
      out[row] += double{weights[row * in.size() + i]} * in[i];
  return out;
}

score_table by_definition(const whole_pass& pass, const model_config& config,
                          const std::vector<surrogate_layer>& layers) {
  score_table scores({config.layers, config.kv_heads, static_cast<std::uint32_t>(pass.rows())});
  for (std::size_t layer = 0; layer < layers.size(); ++layer)
    for (std::size_t row = 0; row < pass.rows(); ++row) {
      const float* h = pass.hidden[layer].data() + row * config.hidden_size;
      std::vector<double> in(h, h + config.hidden_size);
      if (!layers[layer].hidden_bias.empty()) {
        in = product(layers[layer].hidden_weights, layers[layer].hidden_bias, in);
        for (double& x : in)
          x = gelu_of(x);
      }
      const auto out = product(layers[layer].weights, layers[layer].bias, in);
      for (std::size_t head = 0; head < out.size(); ++head)
        scores.head(layer * config.kv_heads + head)[row] = static_cast<float>(out[head]);
    }
  return scores;
}

double largest_difference(const score_table& a, const score_table& b) {
  REQUIRE(a.shape == b.shape);
  double worst = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i)
    worst = std::max(worst, std::abs(double{a.values[i]} - b.values[i]));
  return worst;
}

}  // namespace

TEST_CASE("kvzap scores are what the surrogate beside the model makes of each layer's input") {
  for (const std::string fixture : {"llama", "qwen3"}) {
    const weft::test::temporary_folder folder;
    copy_fixture(fixture, folder.path());
    auto options = exact_options();
    options.chunk_rows = 17;
    auto loaded = runner::load(folder.path(), options);
    REQUIRE(loaded);
    runner& model = *loaded;
    CHECK(model.folder() == folder.path());
    const auto tokens = some_tokens(61, 3);
    whole_pass pass(model, tokens, std::vector<std::int32_t>(61, 1));
    const std::pair<surrogate_kind, std::size_t> kinds[] = {{surrogate_kind::linear, 0},
                                                            {surrogate_kind::mlp, 5}};
    for (const auto& kind_and_hidden : kinds) {
      const auto kind = kind_and_hidden.first;
      CAPTURE(fixture);
      CAPTURE(name_of(kind));
      const auto layers = random_layers(model.config(), kind_and_hidden.second, 9);
      REQUIRE(write_surrogate(surrogate_file(folder.path(), kind), layers, model));
      row_scorer scorer(model);
      kv_cache cache(model.cache_shape(), 61);
      const auto policy =
          kind == surrogate_kind::linear ? importance_policy::kvzap_linear : importance_policy::kvzap_mlp;
      const auto scores = scorer.score(cache, {.policy = policy, .tokens = tokens});
      REQUIRE_MESSAGE(scores.has_value(), scores.error().context);
      CHECK(cache.rows(0, 0) == 61);
      CHECK(largest_difference(*scores, by_definition(pass, model.config(), layers)) < 1e-4);
    }
  }
}

TEST_CASE("a surrogate that is missing, of other weights or of another shape is refused with the remedy") {
  const weft::test::temporary_folder folder;
  auto llama = load_fixture("llama");
  auto qwen = load_fixture("qwen3");
  const auto file = surrogate_file(folder.path(), surrogate_kind::linear);
  const auto refused = [&](runner& model, errc code) {
    const auto loaded = surrogate::load(file, model);
    REQUIRE(!loaded);
    CHECK(loaded.error().code == code);
    CHECK(loaded.error().context.find(file.string()) != std::string::npos);
    CHECK(loaded.error().context.find("weft surrogate train --kind linear") != std::string::npos);
  };
  refused(llama, errc::not_found);
  const auto layers = random_layers(llama.config(), 0, 1);
  REQUIRE(write_surrogate(file, layers, llama));
  CHECK(surrogate::load(file, llama));
  refused(qwen, errc::invalid_argument);
  auto short_of_one = layers;
  short_of_one.pop_back();
  REQUIRE(write_surrogate(file, short_of_one, llama));
  refused(llama, errc::corrupt);
  auto narrow = layers;
  narrow[1].weights.resize(narrow[1].weights.size() / 2);
  REQUIRE(write_surrogate(file, narrow, llama));
  refused(llama, errc::corrupt);
}

TEST_CASE("gelu is x times the normal distribution's share below x") {
  std::vector<float> x;
  for (int i = -8000; i <= 8000; ++i)
    x.push_back(static_cast<float>(i) / 700.0F);
  auto y = x;
  gelu(y);
  for (std::size_t i = 0; i < x.size(); ++i)
    CHECK(std::abs(y[i] - gelu_of(x[i])) <= 1e-6 * std::max(1.0, std::abs(double{x[i]})));
}
