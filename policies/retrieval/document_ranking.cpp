#include <weft/policies/retrieval/document_ranking.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace weft::policies::retrieval {

std::uint32_t ranking_layer(const document_ranking& how, std::uint32_t layers) {
  return std::min(how.layer, layers - 1);
}

std::uint32_t ranking_rows(const document_ranking& how, std::size_t question_tokens,
                           std::size_t suffix_tokens) {
  return static_cast<std::uint32_t>(std::min(question_tokens, suffix_tokens + how.question_tokens));
}

document_keys::document_keys(const document_keys_shape& shape)
    : shape_(shape), channels_(shape.kv_heads), tiles_(shape.kv_heads) {}

std::size_t document_keys::size_bytes() const {
  std::size_t bytes = 0;
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
    bytes += tiles_[head].size_bytes() + channels_[head].size() * sizeof(std::uint32_t);
  return bytes;
}

void document_keys::set(std::uint32_t kv_head, std::span<const std::uint32_t> channels,
                        std::span<const float> vectors) {
  if (channels.size() != shape_.channels || vectors.size() != std::size_t{shape_.vectors} * shape_.channels)
    throw std::logic_error("document keys of another shape");
  channels_[kv_head].assign(channels.begin(), channels.end());
  tiles_[kv_head] = kernels::score_tiles(shape_.type, shape_.vectors, shape_.channels);
  for (std::uint32_t i = 0; i < shape_.vectors; ++i)
    tiles_[kv_head].set(i, vectors.subspan(std::size_t{i} * shape_.channels, shape_.channels));
}

void document_keys::best_products(std::span<const float> queries, std::uint32_t query_heads,
                                  std::span<float> out, kernels::thread_pool& pool) const {
  const std::uint32_t group = query_heads / shape_.kv_heads;
  const std::size_t rows = out.size() / query_heads;
  const std::size_t lines = rows * group;
  std::vector<float> pruned(lines * shape_.channels);
  std::vector<float> products(lines * shape_.vectors);
  for (std::uint32_t kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
    float* next = pruned.data();
    for (std::size_t row = 0; row < rows; ++row)
      for (std::uint32_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
        for (const std::uint32_t channel : channels_[kv_head])
          *next++ = queries[(row * query_heads + head) * shape_.head_dim + channel];
    kernels::vector_products(tiles_[kv_head], pruned.data(), static_cast<std::uint32_t>(lines),
                             products.data(), pool);
    for (std::size_t line = 0; line < lines; ++line) {
      const auto of_line = std::span(products).subspan(line * shape_.vectors, shape_.vectors);
      out[line / group * query_heads + std::size_t{kv_head} * group + line % group] =
          std::ranges::max(of_line);
    }
  }
}

reduced_head reduce_head(std::span<const float> keys, std::uint32_t head_dim, std::uint32_t channels,
                         std::uint32_t token_merge) {
  const auto tokens = static_cast<std::uint32_t>(keys.size() / head_dim);
  reduced_head reduced{.channels = choose_channels(keys, head_dim, channels), .vectors = {}};
  reduced.vectors.resize(std::size_t{merged_vectors(tokens, token_merge)} * channels);
  merge_tokens(keys, head_dim, reduced.channels, token_merge, reduced.vectors);
  return reduced;
}

std::vector<float> document_scores(std::span<const float> best, std::size_t lines) {
  const std::size_t documents = lines == 0 ? 0 : best.size() / lines;
  std::vector<double> scores(documents, 0.0);
  for (std::size_t line = 0; line < lines; ++line) {
    double sum = 0;
    double squares = 0;
    for (std::size_t i = 0; i < documents; ++i)
      sum += best[i * lines + line];
    const double mean = sum / static_cast<double>(documents);
    for (std::size_t i = 0; i < documents; ++i) {
      const double above = best[i * lines + line] - mean;
      squares += above * above;
    }
    const double variance = squares / static_cast<double>(documents);
    if (variance <= 0) continue;
    for (std::size_t i = 0; i < documents; ++i) {
      const double above = std::max(0.0, best[i * lines + line] - mean);
      scores[i] += above * above / variance;
    }
  }
  return {scores.begin(), scores.end()};
}

std::vector<std::size_t> best_documents(std::span<const float> scores, std::size_t count) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(count, order.size()));
  return order;
}

}  // namespace weft::policies::retrieval
