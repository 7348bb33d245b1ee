// Attention by columns from the full matrix of one query head, in double precision.
#pragma once

#include "attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::kernels::reference {

// Scaled products of one query with every key; -infinity where the query does not see the key.
inline std::vector<double> attention_logits(const float* q, const coordinates& query, const float* k,
                                            const std::vector<std::int32_t>& positions,
                                            const std::vector<std::int32_t>& segments, std::size_t head_dim,
                                            double scale) {
  std::vector<double> z(positions.size(), -INFINITY);
  for (std::size_t row = 0; row < z.size(); ++row) {
    if (!sees(query, {positions[row], segments[row]})) continue;
    z[row] = 0;
    for (std::size_t d = 0; d < head_dim; ++d)
      z[row] += double{q[d]} * k[row * head_dim + d] * scale;
  }
  return z;
}

inline double log_sum(const std::vector<double>& z) {
  const double largest = z.empty() ? -INFINITY : *std::max_element(z.begin(), z.end());
  if (std::isinf(largest)) return -INFINITY;
  double sum = 0;
  for (const double value : z)
    sum += std::exp(value - largest);
  return largest + std::log(sum);
}

struct column_statistics {
  double largest_log = -INFINITY;
  double sum = 0;
};

// z: [query][key], log_sums: [query].
inline column_statistics column_of(const std::vector<std::vector<double>>& z,
                                   const std::vector<double>& log_sums, std::size_t column) {
  column_statistics found;
  for (std::size_t row = 0; row < z.size(); ++row) {
    if (std::isinf(z[row][column])) continue;
    found.largest_log = std::max(found.largest_log, z[row][column] - log_sums[row]);
    found.sum += std::exp(z[row][column] - log_sums[row]);
  }
  return found;
}

}  // namespace weft::kernels::reference
