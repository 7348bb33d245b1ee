// Estimated products with sketched keys by definition, in double precision.
#pragma once

#include <weft/kernels/key_sketches.hpp>

#include <algorithm>
#include <cmath>

namespace weft::kernels::reference {

// query * middle + factor * scale * round(query * spread / scale) * level
inline double sketch_product(const key_sketches& keys, std::uint32_t row, const float* query) {
  float largest = 0;
  for (std::uint32_t c = 0; c < keys.channels(); ++c)
    largest = std::max(largest, std::abs(query[c] * keys.spreads()[c]));
  const float scale = largest / 127;
  double sum = 0;
  for (std::uint32_t c = 0; c < keys.channels(); ++c) {
    const float steps = scale > 0 ? std::nearbyint(query[c] * keys.spreads()[c] / scale) : 0;
    sum += double{query[c]} * keys.middles()[c] +
           double{keys.factor(row)} * double{scale} * double{steps} * keys.level(row, c);
  }
  return sum;
}

}  // namespace weft::kernels::reference
