// The prompts whose logits transformers computed, and how a runner computes them.
#pragma once

#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "small_models.hpp"

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace weft::engine::test {

inline std::string fixtures() {
  return std::string(WEFT_SOURCE_DIR) + "/tests/fixtures/";
}

// Of the fixture, or of the shipped model.
inline std::string golden_model_folder(const std::string& name) {
  return name == "recall" ? std::string(WEFT_SOURCE_DIR) + "/models/recall" : fixtures() + name;
}

inline nlohmann::json cases_of(const std::string& name) {
  std::ifstream in(fixtures() + name + "/golden/cases.json");
  REQUIRE(in);
  return nlohmann::json::parse(in).at("cases");
}

inline row_batch batch_of(const nlohmann::json& wanted) {
  row_batch batch;
  for (std::size_t row = 0; row < wanted.at("tokens").size(); ++row)
    batch.add(wanted["tokens"][row], wanted["positions"][row], wanted["segments"][row]);
  batch.logits_rows = wanted.at("rows").get<std::vector<std::uint32_t>>();
  return batch;
}

inline std::vector<float> floats_of(const weft::engine::tensor_view& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

inline std::vector<float> logits_of(runner& model, const row_batch& batch) {
  kv_cache cache(model.cache_shape(), static_cast<std::uint32_t>(batch.size()));
  kv_cache* const caches[] = {&cache};
  std::vector<float> logits(batch.logits_rows.size() * model.config().vocab_size);
  const auto done = model.forward(batch, caches, logits);
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
  return logits;
}

// The logits of every case of `name`, within `largest_difference`.
inline void check_golden_logits(runner& model, const std::string& name, float largest_difference) {
  const auto golden = tensor_files::open(fixtures() + name + "/golden");
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

}  // namespace weft::engine::test
