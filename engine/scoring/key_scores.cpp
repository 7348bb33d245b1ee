#include "context_scorer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

namespace weft::engine::scoring {

namespace {

double norm_of(std::span<const float> row) {
  return std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0));
}

// Calls `score_head(keys, out)` for every (layer, KV head).
template <class ScoreHead>
policies::score_table by_head(const scored_context& context, const ScoreHead& score_head) {
  policies::score_table scores(context.shape());
  const std::uint32_t heads = context.cache->shape().kv_heads;
  context.model->threads().parallel_for(scores.shape.heads(), [&](std::size_t index, unsigned) {
    const auto keys = keys_of(context, static_cast<std::uint32_t>(index / heads),
                              static_cast<std::uint32_t>(index % heads));
    score_head(std::span(keys), scores.head(index));
  });
  return scores;
}

}  // namespace

policies::score_table key_norm_scores(const scored_context& context) {
  const std::size_t width = context.cache->shape().head_dim;
  return by_head(context, [width](std::span<const float> keys, std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(-norm_of(keys.subspan(i * width, width)));
  });
}

policies::score_table key_difference_scores(const scored_context& context) {
  const std::size_t width = context.cache->shape().head_dim;
  return by_head(context, [width](std::span<const float> keys, std::span<float> out) {
    constexpr double least = 1e-12;  // of a norm that something is divided by
    std::vector<double> mean(width, 0.0);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto key = keys.subspan(i * width, width);
      const double norm = std::max(norm_of(key), least);
      for (std::size_t d = 0; d < width; ++d)
        mean[d] += key[d] / norm / static_cast<double>(out.size());
    }
    const double mean_norm =
        std::max(std::sqrt(std::inner_product(mean.begin(), mean.end(), mean.begin(), 0.0)), least);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto key = keys.subspan(i * width, width);
      const double product = std::inner_product(key.begin(), key.end(), mean.begin(), 0.0);
      out[i] = static_cast<float>(-product / std::max(norm_of(key), least) / mean_norm);
    }
  });
}

}  // namespace weft::engine::scoring
