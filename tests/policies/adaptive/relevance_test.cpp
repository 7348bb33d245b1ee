#include <weft/policies/adaptive/relevance.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

using namespace weft::policies::adaptive;

namespace {

constexpr feature_layout layout{.kv_heads = 2, .hidden_size = 6};

struct example {
  changing_features changing;
  constant_features constant;
  std::vector<float> hidden;

  std::vector<float> all() const {
    std::vector<float> features(layout.count());
    changing.write(features.data());
    layout.write(constant, features.data() + changing_features::count);
    return features;
  }
};

example some_example(std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(0, 1);
  example made;
  made.changing = {uniform(random) * 0.1F, uniform(random),
                   static_cast<std::uint32_t>(1000 * uniform(random)), uniform(random)};
  for (std::size_t i = 0; i < layout.hidden_size; ++i)
    made.hidden.push_back(uniform(random) - 0.5F);
  made.constant = {3 * uniform(random),
                   uniform(random),
                   static_cast<std::uint8_t>(5 * uniform(random)),
                   static_cast<std::uint32_t>(2 * uniform(random)),
                   {}};
  return made;
}

training_rows rows_of(const std::vector<example>& examples, bool (*label)(const example&)) {
  training_rows rows;
  for (const auto& made : examples) {
    auto known = made;
    known.constant.hidden = known.hidden;
    const auto features = known.all();
    rows.features.insert(rows.features.end(), features.begin(), features.end());
    rows.labels.push_back(label(made) ? 1 : 0);
  }
  return rows;
}

double share_right(const relevance_predictor& predictor, const std::vector<example>& examples,
                   bool (*label)(const example&)) {
  double right = 0;
  std::vector<float> projected(predictor.lines());
  for (const auto& made : examples) {
    predictor.project_hidden(0, made.hidden, projected);
    predictor.add_constant(0, made.constant, projected);
    right += (predictor.relevance(0, projected, made.changing) > 0.5F) == label(made) ? 1 : 0;
  }
  return right / static_cast<double>(examples.size());
}

bool by_line(const example& e) {
  return e.hidden[1] - e.hidden[4] + (e.constant.kind == 2 ? 0.6F : 0.0F) > 0.2F;
}
bool by_distance(const example& e) {
  return std::abs(e.hidden[0]) + std::abs(e.hidden[3]) > 0.5F;
}

}  // namespace

TEST_CASE("attention is remembered as a mean and as the maximum of the last rows") {
  attention_trace trace;
  trace.add(0.5F, 0);
  CHECK(trace.mean == doctest::Approx(0.05));
  for (std::uint32_t row = 1; row < 25; ++row)
    trace.add(0.01F, row);
  const float scale = std::log(1e5F);
  CHECK(trace.maximum() == doctest::Approx(1 + std::log(0.5F) / scale).epsilon(0.005));
  for (std::uint32_t row = 25; row < 33; ++row)
    trace.add(0.01F, row);
  CHECK(trace.maximum() == doctest::Approx(1 + std::log(0.01F) / scale).epsilon(0.005));
  attention_trace unseen;
  unseen.add(0.0F, 0);
  CHECK(unseen.maximum() == 0);
  unseen.add(7.0F, 1);
  CHECK(unseen.maximum() == 1);
}

TEST_CASE("one weight stands for the rows since the last one") {
  for (const std::uint32_t gap : {2U, 3U, 4U, 7U, 40U}) {
    attention_trace each;
    attention_trace some;
    for (std::uint32_t row = 0; row < 10 * gap; ++row) {
      const float weight = row / gap % 3 == 0 ? 0.4F : 1e-3F;
      each.add(weight, row);
      if (row % gap == gap - 1) add_to_traces({&weight, 1}, row, {&some, 1}, gap);
    }
    CAPTURE(gap);
    CHECK(some.mean == doctest::Approx(each.mean).epsilon(1e-4));
    CHECK(some.maximum() <= each.maximum());
    // What was large long ago is forgotten, though no row between was shown.
    const float nothing = 0;
    add_to_traces({&nothing, 1}, 10 * gap + 39, {&some, 1}, 40);
    CHECK(some.maximum() == 0);
  }
}

TEST_CASE("many rows at once are predicted as each alone") {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(0, 1);
  for (const std::uint32_t units : {0U, 3U}) {
    layer_predictor layer;
    layer.units = units;
    layer.bias.assign(std::max(1U, units), 0.1F);
    layer.output.assign(units, 0.7F);
    layer.output_bias = -0.2F;
    for (std::size_t i = 0; i < layer.bias.size() * layout.count(); ++i)
      layer.input.push_back(normal(random));
    const relevance_predictor predictor(layout, {layer}, 1);
    for (const std::size_t rows : {1U, 7U, 50U}) {
      std::vector<attention_trace> traces(rows);
      std::vector<std::uint32_t> tokens;
      std::vector<float> before, projected, weights, found(rows);
      for (std::size_t row = 0; row < rows; ++row) {
        tokens.push_back(static_cast<std::uint32_t>(random() % 5000));
        before.push_back(std::abs(normal(random)));
        weights.push_back(row % 5 == 0 ? 0.0F : std::exp(-8 * std::abs(normal(random))));
        for (std::size_t line = 0; line < predictor.lines(); ++line)
          projected.push_back(normal(random));
      }
      add_to_traces(weights, 3, traces);
      predictor.relevances(0, projected, {traces.data(), tokens.data(), 5000, before.data()}, found);
      for (std::size_t row = 0; row < rows; ++row) {
        attention_trace alone;
        alone.add(weights[row], 3);
        CHECK(alone.mean == traces[row].mean);
        CHECK(alone.maxima == traces[row].maxima);
        const float expected =
            predictor.relevance(0, std::span(projected).subspan(row * predictor.lines(), predictor.lines()),
                                {alone.mean, alone.maximum(), 5000 - tokens[row], before[row]});
        CHECK(found[row] == doctest::Approx(expected).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("the approximations of logarithm and exponential are close") {
  for (float x = 1e-6F; x < 1.1F; x *= 1.37F) {
    float features[changing_features::count];
    changing_features{.mean_attention = x, .age_tokens = static_cast<std::uint32_t>(x * 1e5F)}.write(
        features);
    CHECK(features[0] == doctest::Approx(1 + std::log(x + 1e-5F) / std::log(1e5F)).epsilon(1e-3).scale(1));
    CHECK(features[2] == doctest::Approx(std::log1p(std::floor(x * 1e5F)) / 10).epsilon(1e-3).scale(1));
  }
  for (float x = -40; x < 40; x += 0.37F) {
    float share[] = {x};
    to_shares(share);
    CHECK(share[0] == doctest::Approx(1 / (1 + std::exp(-double{x}))).epsilon(2e-3));
  }
  float none[] = {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(),
                  std::numeric_limits<float>::infinity()};
  to_shares(none);
  CHECK(none[0] < 1e-30F);
  CHECK(none[1] < 1e-30F);
  CHECK(none[2] == 1);
}

TEST_CASE("a trained predictor gives what its network gave, and tells classes apart") {
  std::mt19937 random(5);
  std::vector<example> seen, unseen;
  for (int i = 0; i < 1500; ++i)
    seen.push_back(some_example(random));
  for (int i = 0; i < 500; ++i)
    unseen.push_back(some_example(random));
  const relevance_predictor linear(layout, {train_layer(layout, rows_of(seen, by_line), {})}, 1);
  CHECK(share_right(linear, unseen, by_line) > 0.93);
  // No line separates these; hidden units do.
  const relevance_predictor straight(layout, {train_layer(layout, rows_of(seen, by_distance), {})}, 1);
  CHECK(share_right(straight, unseen, by_distance) < 0.75);
  const relevance_predictor bent(
      layout, {train_layer(layout, rows_of(seen, by_distance), {.units = 32, .epochs = 60})}, 1);
  CHECK(share_right(bent, unseen, by_distance) > 0.88);
}

TEST_CASE("features that a set leaves out have no say") {
  std::mt19937 random(6);
  std::vector<example> seen;
  for (int i = 0; i < 400; ++i)
    seen.push_back(some_example(random));
  for (const feature_set set : all_feature_sets()) {
    CHECK(feature_set_from_name(name_of(set)).value() == set);
    const auto trained = train_layer(layout, rows_of(seen, by_line), {.epochs = 3, .features = set});
    const auto mask = layout.mask(set);
    for (std::size_t i = 0; i < mask.size(); ++i)
      if (mask[i] == 0) CHECK(trained.input[i] == 0);
    CHECK(std::count(mask.begin(), mask.end(), 1) > 0);
  }
  CHECK(std::ranges::count(layout.mask(feature_set::age_only), 1) == 1);
}

TEST_CASE("training is the same for the same seed") {
  std::mt19937 random(7);
  std::vector<example> seen;
  for (int i = 0; i < 300; ++i)
    seen.push_back(some_example(random));
  const auto rows = rows_of(seen, by_line);
  CHECK(train_layer(layout, rows, {.units = 4, .epochs = 2}).input ==
        train_layer(layout, rows, {.units = 4, .epochs = 2}).input);
  CHECK(train_layer(layout, rows, {.units = 4, .epochs = 2, .seed = 2}).input !=
        train_layer(layout, rows, {.units = 4, .epochs = 2}).input);
}
