// A rough product by definition: rounded weights and inputs in plain loops.
#pragma once

#include <weft/kernels/convert.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::kernels::reference {

// One output's weights with the inputs, without its bias.
inline float rough_product(std::span<const float> weights, std::span<const float> x) {
  constexpr std::size_t group_inputs = 64;
  float product = 0;
  for (std::size_t first = 0; first < x.size(); first += group_inputs) {
    const std::size_t end = std::min(first + group_inputs, x.size());
    float largest_weight = 0;
    float largest_input = 0;
    for (std::size_t i = first; i < end; ++i) {
      largest_weight = std::max(largest_weight, std::abs(weights[i]));
      largest_input = std::max(largest_input, std::abs(x[i]));
    }
    const float narrowed = largest_weight / 7;
    std::byte narrow[2];
    float scale = 0;
    from_f32(dtype::bf16, &narrowed, narrow, 1);
    to_f32(dtype::bf16, narrow, &scale, 1);
    const float input_scale = largest_input / 127;
    if (scale == 0 || input_scale == 0) continue;
    std::int32_t sum = 0;
    for (std::size_t i = first; i < end; ++i)
      sum += static_cast<std::int32_t>(std::clamp(std::nearbyint(weights[i] / scale), -7.0F, 7.0F)) *
             static_cast<std::int32_t>(std::nearbyint(x[i] / input_scale));
    product = std::fma(static_cast<float>(sum), scale * input_scale, product);
  }
  return product;
}

}  // namespace weft::kernels::reference
