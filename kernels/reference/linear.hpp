// One output of a product with weights, in double precision.
#pragma once

#include <cstddef>

namespace weft::kernels::reference {

inline double dot(const float* x, const float* weights, std::size_t inputs) {
  double sum = 0;
  for (std::size_t i = 0; i < inputs; ++i)
    sum += double{x[i]} * weights[i];
  return sum;
}

}  // namespace weft::kernels::reference
