#include "adaptive/read_text.hpp"

#include <weft/kernels/attention_weights.hpp>
#include <weft/kernels/convert.hpp>

#include <algorithm>
#include <cmath>

namespace weft::engine {

read_text::read_text(const runner& model, std::uint32_t tokens)
    : tokens_(tokens),
      hidden_width_(model.config().hidden_size),
      query_width_(std::size_t{model.config().query_heads} * model.config().head_dim),
      group_(model.config().query_heads / model.config().kv_heads),
      rows_(model.cache_shape(), tokens),
      hidden_(std::size_t{model.config().layers} * tokens * hidden_width_),
      queries_(std::size_t{model.config().layers} * tokens * query_width_) {}

result<read_text> read_text::of(runner& model, std::span<const token_id> tokens) {
  read_text text(model, static_cast<std::uint32_t>(tokens.size()));
  row_batch batch;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    batch.add(tokens[i], static_cast<std::int32_t>(i), 0);
  kv_cache* const caches[] = {&text.rows_};
  if (auto done = model.forward(batch, caches, {}, &text); !done) return tl::unexpected(done.error());
  return text;
}

void read_text::layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                            const float* normed) {
  std::copy_n(normed, rows * hidden_width_,
              hidden_.begin() + static_cast<std::ptrdiff_t>((layer * tokens_ + first_row) * hidden_width_));
}

void read_text::layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                              const float* q, std::size_t row_stride) {
  for (std::size_t row = 0; row < rows; ++row)
    std::copy_n(q + row * row_stride, query_width_,
                queries_.begin() + static_cast<std::ptrdiff_t>(
                                       (std::size_t{layer} * tokens_ + first_row + row) * query_width_));
}

std::span<const float> read_text::hidden(std::uint32_t layer, std::uint32_t token) const {
  return std::span(hidden_).subspan((std::size_t{layer} * tokens_ + token) * hidden_width_, hidden_width_);
}

std::vector<float> read_text::norms(std::uint32_t layer, std::uint32_t kv_head, bool values) const {
  const auto& shape = rows_.shape();
  std::vector<float> vectors(std::size_t{tokens_} * shape.head_dim);
  kernels::to_f32(shape.dtype, values ? rows_.v(layer, kv_head) : rows_.k(layer, kv_head), vectors.data(),
                  vectors.size());
  std::vector<float> norms(tokens_, 0.0F);
  for (std::size_t i = 0; i < vectors.size(); ++i)
    norms[i / shape.head_dim] += vectors[i] * vectors[i];
  for (float& norm : norms)
    norm = std::sqrt(norm);
  return norms;
}

std::vector<float> read_text::attention(runner& model, std::uint32_t layer, std::uint32_t kv_head) const {
  std::vector<float> largest(first_of(tokens_));
  std::vector<float> weights;
  for (std::uint32_t row = 0; row < tokens_; ++row) {
    const kernels::kv_run run{rows_.k(layer, kv_head), nullptr, row + 1};
    weights.resize(group_ * (row + 1));
    const float* const q = queries_.data() + (std::size_t{layer} * tokens_ + row) * query_width_ +
                           kv_head * group_ * rows_.shape().head_dim;
    const kernels::weighed_head head{q, {&run, 1}, weights.data(), nullptr};
    kernels::attention_weights(model.attention(), {&head, 1}, model.threads());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      float& out = largest[first_of(row) + i % (row + 1)];
      out = i <= row ? weights[i] : std::max(out, weights[i]);
    }
  }
  return largest;
}

}  // namespace weft::engine
