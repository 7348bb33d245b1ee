#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>

#include "golden_cases.hpp"
#include "small_models.hpp"

#include <algorithm>
#include <string>

using weft::engine::runner;
using weft::engine::tensor_files;
using namespace weft::engine::test;

namespace {

constexpr float largest_difference = 1e-3F;

runner load(const std::string& name) {
  weft::engine::runner_options options;
  options.threads = 2;
  options.cache_dtype = weft::kernels::dtype::f32;
  options.products = weft::engine::arithmetic::f32;
  auto loaded = runner::load(golden_model_folder(name), options);
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

}  // namespace

TEST_CASE("logits are those of transformers") {
  for (const std::string name : {"llama", "llama_tied", "llama_linear", "qwen2", "qwen3", "recall"}) {
    CAPTURE(name);
    auto model = load(name);
    check_golden_logits(model, name, largest_difference);
  }
}

TEST_CASE("the golden logits tell segments and positions apart") {
  auto model = load("llama");
  const auto golden = tensor_files::open(fixtures() + "llama/golden");
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
