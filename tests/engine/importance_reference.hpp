// Importance by definition: from full attention matrices in double precision, over what a forward pass shows
// its observer.
#pragma once

#include <weft/engine/safetensors.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/kernels/convert.hpp>

#include "small_models.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace weft::engine::test {

using matrix = std::vector<std::vector<double>>;

// Everything that a forward pass computes, f32 cache: [layer][row]...
class whole_pass final : public forward_observer {
 public:
  whole_pass(runner& model, std::vector<token_id> tokens, std::vector<std::int32_t> segments)
      : config_(model.config()),
        tokens_(std::move(tokens)),
        segments_(std::move(segments)),
        cache_(model.cache_shape(), static_cast<std::uint32_t>(tokens_.size())) {
    hidden.resize(config_.layers);
    queries.resize(config_.layers);
    row_batch batch;
    for (std::size_t i = 0; i < tokens_.size(); ++i)
      batch.add(tokens_[i], static_cast<std::int32_t>(i), segments_[i]);
    kv_cache* const caches[] = {&cache_};
    REQUIRE(model.forward(batch, caches, {}, this));
  }

  void layer_input(std::uint32_t layer, std::uint32_t, std::uint32_t rows, const float* normed) override {
    hidden[layer].insert(hidden[layer].end(), normed, normed + std::size_t{rows} * config_.hidden_size);
  }
  void layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t rows, const float* q,
                     std::size_t stride) override {
    const std::size_t width = std::size_t{config_.query_heads} * config_.head_dim;
    for (std::uint32_t row = 0; row < rows; ++row)
      queries[layer].insert(queries[layer].end(), q + row * stride, q + row * stride + width);
  }

  std::size_t rows() const { return tokens_.size(); }
  std::size_t group() const { return config_.query_heads / config_.kv_heads; }
  std::vector<double> query(std::size_t layer, std::size_t head, std::size_t row) const {
    const float* q = queries[layer].data() + (row * config_.query_heads + head) * config_.head_dim;
    return {q, q + config_.head_dim};
  }
  std::vector<double> key(std::size_t layer, std::size_t head, std::size_t row) {
    return stored(cache_.k(static_cast<std::uint32_t>(layer), static_cast<std::uint32_t>(head)), row);
  }
  std::vector<double> value(std::size_t layer, std::size_t head, std::size_t row) {
    return stored(cache_.v(static_cast<std::uint32_t>(layer), static_cast<std::uint32_t>(head)), row);
  }
  bool may_see(std::size_t query, std::size_t key) const {
    return key <= query && (segments_[query] == 0 || segments_[query] == segments_[key]);
  }

  // Attention of one query head over the columns that `column(i)` allows, row by row.
  template <class Column>
  matrix attention(std::size_t layer, std::size_t head, const Column& column) {
    matrix a(rows(), std::vector<double>(rows(), 0.0));
    std::vector<std::vector<double>> keys;
    for (std::size_t i = 0; i < rows(); ++i)
      keys.push_back(key(layer, head / group(), i));
    for (std::size_t j = 0; j < rows(); ++j) {
      const auto q = query(layer, head, j);
      double sum = 0;
      for (std::size_t i = 0; i <= j; ++i) {
        if (!column(i) || !may_see(j, i)) continue;
        double z = 0;
        for (std::size_t d = 0; d < q.size(); ++d)
          z += q[d] * keys[i][d];
        sum += a[j][i] = std::exp(z / std::sqrt(static_cast<double>(q.size())));
      }
      for (double& share : a[j])
        share = sum > 0 ? share / sum : 0;
    }
    return a;
  }

  std::vector<std::vector<float>> hidden, queries;

 private:
  std::vector<double> stored(const std::byte* rows, std::size_t row) const {
    std::vector<float> out(config_.head_dim);
    const auto type = cache_.shape().dtype;
    kernels::to_f32(type, rows + row * config_.head_dim * kernels::size_bytes(type), out.data(), out.size());
    return {out.begin(), out.end()};
  }

  const model_config& config_;
  std::vector<token_id> tokens_;
  std::vector<std::int32_t> segments_;
  kv_cache cache_;
};

inline double norm(const std::vector<double>& x) {
  double square = 0;
  for (const double value : x)
    square += value * value;
  return std::sqrt(square);
}

// The largest difference relative to the table's own scale at that score.
inline double score_error(const policies::score_table& found, const policies::score_table& expected) {
  REQUIRE(found.shape == expected.shape);
  double worst = 0;
  for (std::size_t i = 0; i < found.values.size(); ++i) {
    const double error = std::abs(double{found.values[i]} - expected.values[i]) /
                         (std::abs(double{expected.values[i]}) + 1e-9);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

}  // namespace weft::engine::test
