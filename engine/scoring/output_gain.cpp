#include "output_gain.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace weft::engine::scoring {

namespace {

// columns: W_O e_i, [head_dim][hidden]. Their products, [head_dim][head_dim].
std::vector<float> gram_of(std::span<const float> columns, std::size_t head_dim, std::size_t hidden,
                           kernels::thread_pool& pool) {
  std::vector<float> gram(head_dim * head_dim);
  pool.parallel_for(head_dim, [&](std::size_t a, unsigned) {
    for (std::size_t b = a; b < head_dim; ++b) {
      const auto left = columns.subspan(a * hidden, hidden);
      const auto right = columns.subspan(b * hidden, hidden);
      gram[a * head_dim + b] = gram[b * head_dim + a] =
          static_cast<float>(std::inner_product(left.begin(), left.end(), right.begin(), 0.0));
    }
  });
  return gram;
}

}  // namespace

output_gain::output_gain(runner& model) : model_(model) {
  const model_config& config = model.config();
  std::vector<float> columns(std::size_t{config.head_dim} * config.hidden_size);
  for (std::uint32_t layer = 0; layer < config.layers; ++layer)
    for (std::uint32_t head = 0; head < config.query_heads; ++head) {
      model.output_columns(layer, head, columns);
      const auto gram = gram_of(columns, config.head_dim, config.hidden_size, model.threads());
      const kernels::weight_part part{std::as_bytes(std::span(gram)).data(), config.head_dim};
      grams_.emplace_back(std::span(&part, 1), kernels::dtype::f32, config.head_dim, kernels::products::f32,
                          model.threads());
    }
}

void output_gain::norms(std::uint32_t layer, std::uint32_t query_head, std::span<const float> values,
                        std::span<float> out) const {
  const std::size_t width = model_.config().head_dim;
  const auto rows = static_cast<std::uint32_t>(out.size());
  kernels::linear_input packed;
  packed.pack(values.data(), rows, model_.config().head_dim, width, kernels::dtype::f32, model_.threads());
  std::vector<float> products(values.size());
  grams_[std::size_t{layer} * model_.config().query_heads + query_head].apply(packed, products.data(), width,
                                                                              model_.threads());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto value = values.subspan(i * width, width);
    const double square = std::inner_product(value.begin(), value.end(),
                                             products.begin() + static_cast<std::ptrdiff_t>(i * width), 0.0);
    out[i] = static_cast<float>(std::sqrt(std::max(square, 0.0)));
  }
}

}  // namespace weft::engine::scoring
