// Attention by definition, in double precision.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::kernels::reference {

struct coordinates {
  std::int32_t position = 0;
  std::int32_t segment = 0;
};

inline bool sees(const coordinates& query, const coordinates& key) {
  return key.position <= query.position && (key.segment == query.segment || query.segment == 0);
}

// One query against `keys.size()` rows [row][head_dim] of k and v; zeros if it sees none.
inline std::vector<double> attention(const float* q, const coordinates& query, const float* k, const float* v,
                                     const std::vector<coordinates>& keys, std::size_t head_dim,
                                     double scale) {
  std::vector<double> scores(keys.size());
  double maximum = -INFINITY;
  for (std::size_t row = 0; row < keys.size(); ++row) {
    scores[row] = -INFINITY;
    if (!sees(query, keys[row])) continue;
    scores[row] = 0;
    for (std::size_t d = 0; d < head_dim; ++d)
      scores[row] += double{q[d]} * k[row * head_dim + d] * scale;
    maximum = std::max(maximum, scores[row]);
  }
  std::vector<double> out(head_dim, 0.0);
  if (maximum == -INFINITY) return out;
  double sum = 0;
  for (std::size_t row = 0; row < keys.size(); ++row) {
    const double weight = std::exp(scores[row] - maximum);
    sum += weight;
    for (std::size_t d = 0; d < head_dim; ++d)
      out[d] += weight * v[row * head_dim + d];
  }
  for (double& value : out)
    value /= sum;
  return out;
}

}  // namespace weft::kernels::reference
