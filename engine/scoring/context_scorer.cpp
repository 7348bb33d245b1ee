#include "context_scorer.hpp"

#include <weft/kernels/convert.hpp>

namespace weft::engine::scoring {

policies::score_shape scored_context::shape() const {
  const kv_shape& rows = cache->shape();
  return {rows.layers, rows.kv_heads, tokens()};
}

std::uint32_t scored_context::group() const {
  return model->config().query_heads / model->config().kv_heads;
}

std::vector<float> values_of(const scored_context& context, std::uint32_t layer, std::uint32_t kv_head) {
  const kv_shape& shape = context.cache->shape();
  std::vector<float> values(std::size_t{context.tokens()} * shape.head_dim);
  kernels::to_f32(shape.dtype, context.cache->v(layer, kv_head), values.data(), values.size());
  return values;
}

std::vector<float> keys_of(const scored_context& context, std::uint32_t layer, std::uint32_t kv_head) {
  const kv_shape& shape = context.cache->shape();
  std::vector<float> keys(std::size_t{context.tokens()} * shape.head_dim);
  kernels::to_f32(shape.dtype, context.cache->k(layer, kv_head), keys.data(), keys.size());
  return keys;
}

}  // namespace weft::engine::scoring
