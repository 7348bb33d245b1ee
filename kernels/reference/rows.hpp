// The operations on single rows, by definition, in double precision.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::kernels::reference {

inline std::vector<double> rms_norm(const float* x, const float* weight, std::size_t columns,
                                    double epsilon) {
  double sum = 0;
  for (std::size_t i = 0; i < columns; ++i)
    sum += double{x[i]} * x[i];
  const double factor = 1.0 / std::sqrt(sum / static_cast<double>(columns) + epsilon);
  std::vector<double> out(columns);
  for (std::size_t i = 0; i < columns; ++i)
    out[i] = x[i] * factor * weight[i];
  return out;
}

inline double swiglu(double gate, double up) {
  return gate / (1.0 + std::exp(-gate)) * up;
}

// The angle of a pair: the product is rounded to f32, as models were trained with it.
inline double angle(float frequency, std::int32_t position) {
  return frequency * static_cast<float>(position);
}

inline std::vector<double> rotate(const float* x, const std::vector<float>& frequencies,
                                  std::int32_t position) {
  const std::size_t half = frequencies.size();
  std::vector<double> out(2 * half);
  for (std::size_t i = 0; i < half; ++i) {
    const double c = std::cos(angle(frequencies[i], position));
    const double s = std::sin(angle(frequencies[i], position));
    out[i] = x[i] * c - x[half + i] * s;
    out[half + i] = x[half + i] * c + x[i] * s;
  }
  return out;
}

}  // namespace weft::kernels::reference
