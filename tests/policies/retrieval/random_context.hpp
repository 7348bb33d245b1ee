// Documents with random keys, and scores of their blocks by definition.
#pragma once

#include <weft/kernels/rope.hpp>
#include <weft/policies/retrieval/block_ranker.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace weft::policies::retrieval::test {

class random_context {
 public:
  random_context(std::uint32_t seed, const options& chosen, ranked_shape shape,
                 const std::vector<std::uint32_t>& lengths)
      : chosen_(chosen), shape_(shape), engine_(seed) {
    frequencies_ = kernels::rope_frequencies({}, shape.head_dim);
    std::int32_t position = 3;
    for (const std::uint32_t tokens : lengths) {
      documents_.push_back({position, tokens});
      position += static_cast<std::int32_t>(tokens);
    }
    plan_ = plan_blocks(documents_, chosen);
    for (std::size_t i = 0; i < std::size_t{shape.layers} * shape.kv_heads * documents_.size(); ++i)
      keys_.push_back(values(std::size_t{documents_[i % documents_.size()].tokens} * shape.head_dim));
  }

  std::vector<float> values(std::size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> out(count);
    for (float& value : out)
      value = normal(engine_);
    return out;
  }

  const block_plan& plan() const { return plan_; }
  const std::vector<float>& keys(std::uint32_t layer, std::uint32_t head, std::uint32_t document) const {
    return keys_[(std::size_t{layer} * shape_.kv_heads + head) * documents_.size() + document];
  }
  const std::vector<context_document>& documents() const { return documents_; }
  const std::vector<float>& frequencies() const { return frequencies_; }

  std::unique_ptr<block_ranker> ranker(std::vector<std::uint32_t> held) const {
    auto context = whole_context(shape_, documents_, plan_, frequencies_);
    context.held = std::move(held);
    auto made = make_ranker(chosen_, std::move(context));
    for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
      for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
        for (std::uint32_t document = 0; document < documents_.size(); ++document)
          made->add_keys(layer, head, document, keys(layer, head, document));
    return made;
  }

  std::vector<std::uint32_t> every_block() const {
    std::vector<std::uint32_t> all(plan_.middle);
    std::iota(all.begin(), all.end(), 0U);
    return all;
  }

  // A token's key at its position in the prompt.
  std::vector<double> rotated_key(std::uint32_t layer, std::uint32_t head, const context_block& block,
                                  std::uint32_t token) const {
    const auto& all = keys(layer, head, block.document);
    const float* key = all.data() + std::size_t{block.first_token + token} * shape_.head_dim;
    const std::vector<double> plain(key, key + shape_.head_dim);
    return rotated(plain, static_cast<double>(block.start_position) + token);
  }

  std::vector<double> rotated(const std::vector<double>& x, double position) const {
    const std::size_t half = frequencies_.size();
    std::vector<double> out(2 * half);
    for (std::size_t j = 0; j < half; ++j) {
      const double angle = frequencies_[j] * static_cast<float>(position);
      out[j] = x[j] * std::cos(angle) - x[half + j] * std::sin(angle);
      out[half + j] = x[half + j] * std::cos(angle) + x[j] * std::sin(angle);
    }
    return out;
  }

  std::vector<bool> kept(std::uint32_t layer, std::uint32_t head, std::uint32_t document) const {
    const std::uint32_t half = shape_.head_dim / 2;
    const auto& all = keys(layer, head, document);
    std::vector<double> weight(half, 0.0);
    for (std::size_t i = 0; i < all.size(); ++i)
      weight[i % half] += std::abs(all[i]);
    std::vector<std::uint32_t> order(half);
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::sort(order, [&](auto a, auto b) { return weight[a] > weight[b]; });
    std::vector<bool> out(shape_.head_dim, false);
    const auto pairs = static_cast<std::size_t>(std::floor(shape_.head_dim * chosen_.dim_ratio / 2 + 0.5));
    for (std::size_t i = 0; i < pairs; ++i)
      out[order[i]] = out[order[i] + half] = true;
    return out;
  }

  // kvstar's scores: merge all channels, rotate all, multiply the kept ones.
  std::vector<double> kvstar_scores(std::uint32_t layer, const std::vector<float>& queries,
                                    std::uint32_t steps) const {
    std::vector<double> scores(plan_.middle, 0.0);
    for (std::uint32_t step = 0; step < steps; ++step)
      for (std::uint32_t q = 0; q < shape_.query_heads; ++q)
        add_line(layer, q, queries.data() + (std::size_t{step} * shape_.query_heads + q) * shape_.head_dim,
                 scores);
    return scores;
  }

 private:
  void add_line(std::uint32_t layer, std::uint32_t q, const float* query, std::vector<double>& scores) const {
    const std::uint32_t head = q / (shape_.query_heads / shape_.kv_heads);
    std::vector<std::pair<std::size_t, double>> products;
    for (std::size_t i = 0; i < plan_.middle; ++i) {
      const context_block& block = plan_.middle_blocks()[i];
      const auto mask = kept(layer, head, block.document);
      for (std::uint32_t first = 0; first < chosen_.block_tokens; first += chosen_.token_merge) {
        const std::uint32_t end = std::min(first + chosen_.token_merge, chosen_.block_tokens);
        std::vector<double> mean(shape_.head_dim, 0.0);
        double position = 0;
        for (std::uint32_t token = first; token < end; ++token) {
          position += static_cast<double>(block.start_position) + token;
          const float* key = keys(layer, head, block.document).data() +
                             std::size_t{block.first_token + token} * shape_.head_dim;
          for (std::size_t d = 0; d < mean.size(); ++d)
            mean[d] += key[d] / static_cast<double>(end - first);
        }
        const auto there = rotated(mean, position / (end - first));
        double product = 0;
        for (std::size_t d = 0; d < mean.size(); ++d)
          if (mask[d]) product += there[d] * query[d];
        products.emplace_back(i, product);
      }
    }
    double largest = -1e300;
    double sum = 0;
    for (const auto& [block, product] : products)
      largest = std::max(largest, product);
    for (const auto& [block, product] : products)
      sum += std::exp(product - largest);
    for (const auto& [block, product] : products)
      scores[block] += std::exp(product - largest) / sum;
  }

  options chosen_;
  ranked_shape shape_;
  std::mt19937 engine_;
  std::vector<float> frequencies_;
  std::vector<context_document> documents_;
  block_plan plan_;
  std::vector<std::vector<float>> keys_;  // [layer][kv_head][document]
};

}  // namespace weft::policies::retrieval::test
