#include <weft/policies/retrieval/representation.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace weft::policies::retrieval {

namespace {

std::vector<double> pair_weights(std::span<const float> keys, std::uint32_t head_dim) {
  const std::uint32_t half = head_dim / 2;
  std::vector<double> weights(half, 0.0);
  for (std::size_t row = 0; row < keys.size(); row += head_dim)
    for (std::size_t pair = 0; pair < half; ++pair)
      weights[pair] += std::abs(double{keys[row + pair]}) + std::abs(double{keys[row + pair + half]});
  return weights;
}

}  // namespace

std::uint32_t kept_channels(std::uint32_t head_dim, double dim_ratio) {
  const auto pairs = static_cast<std::uint32_t>(std::floor(head_dim * dim_ratio / 2 + 0.5));
  return 2 * std::clamp(pairs, 1U, head_dim / 2);
}

std::vector<std::uint32_t> choose_channels(std::span<const float> keys, std::uint32_t head_dim,
                                           std::uint32_t channels) {
  const std::uint32_t pairs = channels / 2;
  const auto weights = pair_weights(keys, head_dim);
  std::vector<std::uint32_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&weights](std::uint32_t a, std::uint32_t b) { return weights[a] > weights[b]; });
  order.resize(pairs);
  std::sort(order.begin(), order.end());
  for (std::uint32_t pair = 0; pair < pairs; ++pair)
    order.push_back(order[pair] + head_dim / 2);
  return order;
}

std::uint32_t merged_vectors(std::uint32_t block_tokens, std::uint32_t token_merge) {
  return (block_tokens + token_merge - 1) / token_merge;
}

float merged_offset(std::uint32_t vector, std::uint32_t block_tokens, std::uint32_t token_merge) {
  const std::uint32_t first = vector * token_merge;
  const std::uint32_t last = std::min(first + token_merge, block_tokens) - 1;
  return static_cast<float>(first + last) / 2;
}

void merge_tokens(std::span<const float> block_keys, std::uint32_t head_dim,
                  std::span<const std::uint32_t> channels, std::uint32_t token_merge, std::span<float> out) {
  const auto tokens = static_cast<std::uint32_t>(block_keys.size() / head_dim);
  float* value = out.data();
  for (std::uint32_t first = 0; first < tokens; first += token_merge) {
    const std::uint32_t end = std::min(first + token_merge, tokens);
    for (const std::uint32_t channel : channels) {
      float sum = 0;
      for (std::size_t token = first; token < end; ++token)
        sum += block_keys[token * head_dim + channel];
      *value++ = sum / static_cast<float>(end - first);
    }
  }
}

void rotate_kept(std::span<float> vector, std::span<const std::uint32_t> channels,
                 std::span<const float> frequencies, float position) {
  const std::size_t pairs = channels.size() / 2;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const double angle = frequencies[channels[pair]] * position;
    const auto c = static_cast<float>(std::cos(angle));
    const auto s = static_cast<float>(std::sin(angle));
    const float low = vector[pair];
    const float high = vector[pairs + pair];
    vector[pair] = low * c - high * s;
    vector[pairs + pair] = high * c + low * s;
  }
}

}  // namespace weft::policies::retrieval
