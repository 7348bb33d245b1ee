// Surrogates of noise beside small models.
#pragma once

#include <weft/engine/surrogate.hpp>

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

namespace weft::engine::test {

inline std::vector<float> noise(std::size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 0.3F);
  std::vector<float> values(count);
  for (float& value : values)
    value = normal(random);
  return values;
}

inline std::vector<surrogate_layer> random_layers(const model_config& config, std::size_t hidden,
                                                  std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<surrogate_layer> layers(config.layers);
  for (surrogate_layer& layer : layers) {
    layer.hidden_weights = noise(hidden * config.hidden_size, random);
    layer.hidden_bias = noise(hidden, random);
    layer.weights = noise(config.kv_heads * (hidden == 0 ? config.hidden_size : hidden), random);
    layer.bias = noise(config.kv_heads, random);
  }
  return layers;
}

inline void copy_fixture(const std::string& name, const std::filesystem::path& to) {
  std::filesystem::copy(std::filesystem::path(WEFT_SOURCE_DIR) / "tests" / "fixtures" / name, to);
}

}  // namespace weft::engine::test
