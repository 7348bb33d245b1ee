#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>

using weft::engine::kv_cache;
using weft::engine::row_batch;
using weft::engine::runner;
using weft::engine::tensor_files;

namespace {

const std::string root = WEFT_SOURCE_DIR;
const std::string fixtures = root + "/tests/fixtures/";

constexpr float largest_difference = 1e-3F;

nlohmann::json cases_of(const std::string& name) {
  std::ifstream in(fixtures + name + "/golden/cases.json");
  REQUIRE(in);
  return nlohmann::json::parse(in).at("cases");
}

runner load(const std::string& name) {
  weft::engine::runner_options options;
  options.threads = 2;
  options.cache_dtype = weft::kernels::dtype::f32;
  options.products = weft::engine::arithmetic::f32;
  auto loaded = runner::load(name == "recall" ? root + "/models/recall" : fixtures + name, options);
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

row_batch batch_of(const nlohmann::json& wanted) {
  row_batch batch;
  for (std::size_t row = 0; row < wanted.at("tokens").size(); ++row)
    batch.add(wanted["tokens"][row], wanted["positions"][row], wanted["segments"][row]);
  batch.logits_rows = wanted.at("rows").get<std::vector<std::uint32_t>>();
  return batch;
}

std::vector<float> floats_of(const weft::engine::tensor_view& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

std::vector<float> logits_of(runner& model, const row_batch& batch) {
  kv_cache cache(model.cache_shape(), static_cast<std::uint32_t>(batch.size()));
  kv_cache* const caches[] = {&cache};
  std::vector<float> logits(batch.logits_rows.size() * model.config().vocab_size);
  const auto done = model.forward(batch, caches, logits);
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
  return logits;
}

float distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    // A NaN must not pass as a small difference.
    if (!(std::abs(a[i] - b[i]) <= largest)) largest = std::abs(a[i] - b[i]);
    if (std::isnan(largest)) return largest;
  }
  return largest;
}

}  // namespace

TEST_CASE("logits are those of transformers") {
  for (const std::string name : {"llama", "llama_tied", "llama_linear", "qwen2", "qwen3", "recall"}) {
    CAPTURE(name);
    auto model = load(name);
    const auto golden = tensor_files::open(fixtures + name + "/golden");
    REQUIRE_MESSAGE(golden.has_value(), golden.error().context);
    std::size_t number = 0;
    for (const auto& wanted : cases_of(name)) {
      CAPTURE(wanted.at("name").get<std::string>());
      const auto* logits = golden->find("logits_" + std::to_string(number++));
      REQUIRE(logits != nullptr);
      CHECK(distance(logits_of(model, batch_of(wanted)), floats_of(*logits)) <= largest_difference);
    }
    CHECK(number >= 4);
  }
}

TEST_CASE("the golden logits tell segments and positions apart") {
  auto model = load("llama");
  const auto golden = tensor_files::open(fixtures + "llama/golden");
  REQUIRE(golden);
  const auto cases = cases_of("llama");
  const auto segments = std::ranges::find_if(cases, [](const auto& c) { return c.at("name") == "segments"; });
  REQUIRE(segments != cases.end());
  const auto wanted = floats_of(*golden->find("logits_" + std::to_string(segments - cases.begin())));
  auto causal = batch_of(*segments);
  std::ranges::fill(causal.segments, 0);
  CHECK(distance(logits_of(model, causal), wanted) > 0.1F);
  auto stretched = batch_of(*segments);
  for (auto& position : stretched.positions)
    position *= 2;
  CHECK(distance(logits_of(model, stretched), wanted) > 0.1F);
}
