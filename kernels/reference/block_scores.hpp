// Scores of blocks by definition, in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace weft::kernels::reference {

inline double product(const float* a, const float* b, std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i)
    sum += double{a[i]} * b[i];
  return sum;
}

// keys: [vector][channel]. Shares of each block in the softmax (base 2) of one query over all vectors.
inline std::vector<double> softmax_shares(const std::vector<float>& keys, std::size_t channels,
                                          std::size_t block_vectors, const float* query) {
  const std::size_t vectors = keys.size() / channels;
  std::vector<double> scores(vectors);
  for (std::size_t i = 0; i < vectors; ++i)
    scores[i] = product(query, keys.data() + i * channels, channels);
  const double maximum = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores)
    sum += score = std::exp2(score - maximum);
  std::vector<double> shares((vectors + block_vectors - 1) / block_vectors, 0.0);
  for (std::size_t i = 0; i < vectors; ++i)
    shares[i / block_vectors] += scores[i] / sum;
  return shares;
}

inline double box_bound(const float* query, const float* low, const float* high, std::size_t channels) {
  double sum = 0;
  for (std::size_t i = 0; i < channels; ++i)
    sum += std::max(double{query[i]} * low[i], double{query[i]} * high[i]);
  return sum;
}

inline std::vector<std::uint32_t> top_k(const std::vector<float>& scores, std::size_t k) {
  std::vector<std::uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::isnan(scores[b]) ? !std::isnan(scores[a]) : scores[a] > scores[b];
  });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace weft::kernels::reference
