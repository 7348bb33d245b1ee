// Estimated products with sketched keys by definition, in double precision.
#pragma once

#include <weft/kernels/key_sketches.hpp>

namespace weft::kernels::reference {

// query * (middle + spread * factor * level)
inline double sketch_product(const key_sketches& keys, std::uint32_t row, const float* query) {
  double sum = 0;
  for (std::uint32_t c = 0; c < keys.channels(); ++c)
    sum += double{query[c]} *
           (double{keys.middles()[c]} + double{keys.spreads()[c]} * keys.factor(row) * keys.level(row, c));
  return sum;
}

}  // namespace weft::kernels::reference
