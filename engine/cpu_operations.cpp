#include "cpu_operations.hpp"

#include <weft/kernels/convert.hpp>
#include <weft/kernels/rms_norm.hpp>

#include <cstring>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

}  // namespace

cpu_operations::cpu_operations(const model_config& config, const model_weights& weights,
                               const kv_shape& shape, kernels::products allowed,
                               std::span<const float> frequencies, kernels::thread_pool& pool,
                               collective::communicator* group)
    : config_(config),
      weights_(weights),
      shape_(shape),
      frequencies_(frequencies),
      pool_(pool),
      group_(group),
      attention_of_layer_(attention_shape_of(config, shape.dtype, allowed), config.layers, pool),
      fresh_(shape),
      query_width_(config.query_heads * config.head_dim),
      key_width_(config.kv_heads * config.head_dim),
      qkv_width_(query_width_ + 2 * key_width_) {}

result<void> cpu_operations::prepare(std::span<const row_group> groups, std::uint32_t rows) {
  if (auto home = bring_caches_home(groups); !home) return home;
  reserve(rows);
  return {};
}

result<void> cpu_operations::begin(const row_chunk& chunk) {
  rotations_.assign(frequencies_, chunk.positions);
  attention_of_layer_.begin();
  return {};
}

void cpu_operations::reserve(std::uint32_t rows) {
  if (rows <= reserved_rows_) return;
  const std::size_t kv_bytes = aligned(std::size_t{rows} * key_width_ * kernels::size_bytes(shape_.dtype));
  const auto floats = [rows](std::uint32_t width) {
    return aligned(std::size_t{rows} * width * sizeof(float));
  };
  const std::size_t hidden_bytes = floats(config_.hidden_size);
  const std::size_t qkv_bytes = floats(qkv_width_);
  const std::size_t attention_bytes = floats(query_width_);
  memory_ = kernels::aligned_buffer(2 * hidden_bytes + qkv_bytes + attention_bytes +
                                    floats(2 * config_.intermediate_size) + 2 * kv_bytes);
  std::byte* next = memory_.data();
  const auto take = [&next](std::size_t bytes) { return std::exchange(next, next + bytes); };
  x_ = reinterpret_cast<float*>(take(hidden_bytes));
  normed_ = reinterpret_cast<float*>(take(hidden_bytes));
  qkv_ = reinterpret_cast<float*>(take(qkv_bytes));
  attention_ = reinterpret_cast<float*>(take(attention_bytes));
  k_ = take(kv_bytes);
  v_ = take(kv_bytes);
  mlp_ = reinterpret_cast<float*>(next);
  reserved_rows_ = rows;
}

result<void> cpu_operations::embed(std::span<const token_id> tokens) {
  const std::size_t width = config_.hidden_size;
  for (std::size_t row = 0; row < tokens.size(); ++row)
    weights_.embedding->row(tokens[row], {x_ + row * width, width});
  return {};
}

result<void> cpu_operations::set_stream(const float* stream, std::span<const std::uint32_t> rows) {
  const std::size_t width = config_.hidden_size;
  for (std::size_t row = 0; row < rows.size(); ++row)
    std::memcpy(x_ + row * width, stream + rows[row] * width, width * sizeof(float));
  return {};
}

result<void> cpu_operations::read_stream(std::uint32_t rows, float* out) {
  std::memcpy(out, x_, std::size_t{rows} * config_.hidden_size * sizeof(float));
  return {};
}

void cpu_operations::normalise(std::uint32_t rows, std::span<const float> weight) {
  kernels::rms_norm(x_, config_.hidden_size, normed_, config_.hidden_size, rows, 1, config_.hidden_size,
                    weight.data(), static_cast<float>(config_.rms_norm_eps), pool_);
}

void cpu_operations::project(std::uint32_t number, std::uint32_t rows) {
  const layer_weights& layer = weights_.layers[number];
  project_first(layer, layer.qkv.outputs(), rows);
  if (config_.qk_norm) normalise_heads(qkv_ + query_width_, config_.kv_heads, layer.key_norm, rows);
}

// As many outputs as are wanted, queries first; queries are normalised.
void cpu_operations::project_first(const layer_weights& layer, std::uint32_t outputs, std::uint32_t rows) {
  normalise(rows, layer.attention_norm);
  packed_.pack(normed_, rows, config_.hidden_size, config_.hidden_size, layer.qkv.input_dtype(), pool_);
  layer.qkv.apply_first(outputs, packed_, qkv_, qkv_width_, pool_);
  if (config_.qk_norm) normalise_heads(qkv_, config_.query_heads, layer.query_norm, rows);
}

void cpu_operations::normalise_heads(float* heads, std::uint32_t count, std::span<const float> weight,
                                     std::uint32_t rows) {
  kernels::rms_norm(heads, qkv_width_, heads, qkv_width_, rows, count, config_.head_dim, weight.data(),
                    static_cast<float>(config_.rms_norm_eps), pool_);
}

void cpu_operations::round_keys_and_values(std::uint32_t rows) {
  const std::size_t row_bytes = key_width_ * kernels::size_bytes(shape_.dtype);
  for (std::uint32_t row = 0; row < rows; ++row) {
    const float* keys = qkv_ + std::size_t{row} * qkv_width_ + query_width_;
    kernels::from_f32(shape_.dtype, keys, k_ + row * row_bytes, key_width_);
    kernels::from_f32(shape_.dtype, keys + key_width_, v_ + row * row_bytes, key_width_);
  }
}

result<void> cpu_operations::write_cache(std::uint32_t layer, const row_chunk& chunk, bool) {
  runs_.clear();
  fresh_.open(layer, chunk, runs_);
  fresh_.scatter(layer, runs_, k_, v_, rotations_, pool_);
  kernels::rotate(qkv_, qkv_width_, static_cast<std::uint32_t>(chunk.tokens.size()), config_.query_heads,
                  rotations_, pool_);
  return {};
}

result<void> cpu_operations::count_columns(std::uint32_t layer, const row_chunk& chunk,
                                           forward_observer& observer) {
  attention_of_layer_.count_columns(layer, chunk, queries(), observer);
  return {};
}

// Rows only move towards the front.
result<void> cpu_operations::keep(std::span<const std::uint32_t> rows) {
  for (std::size_t kept = 0; kept < rows.size(); ++kept) {
    const std::size_t row = rows[kept];
    if (kept == row) continue;
    std::memcpy(x_ + kept * config_.hidden_size, x_ + row * config_.hidden_size,
                config_.hidden_size * sizeof(float));
    std::memcpy(qkv_ + kept * qkv_width_, qkv_ + row * qkv_width_, query_width_ * sizeof(float));
  }
  return {};
}

// The residual stream without this layer's MLP, read as if it were the next layer's.
result<shown_queries> cpu_operations::show_queries_ahead(std::uint32_t layer, std::uint32_t rows,
                                                         bool roughly) {
  ahead_.resize(std::size_t{rows} * qkv_width_);
  float* const own = std::exchange(qkv_, ahead_.data());
  if (rows == 1 && roughly && kernels::rough_linear::is_fast())
    estimate_queries(layer);
  else
    project_first(weights_.layers[layer], query_width_, rows);
  kernels::rotate(qkv_, qkv_width_, rows, config_.query_heads, rotations_, pool_);
  qkv_ = own;
  return shown_queries{ahead_.data(), qkv_width_};
}

// Of one row: an estimate needs no more of its weights than a quarter of their bytes.
void cpu_operations::estimate_queries(std::uint32_t layer) {
  const auto& weights = weights_.layers[layer];
  rough_queries_.resize(config_.layers);
  auto& rough = rough_queries_[layer];
  if (!rough) rough.emplace(weights.qkv, query_width_, pool_);
  normalise(1, weights.attention_norm);
  rough->apply(normed_, qkv_, pool_);
  if (config_.qk_norm) normalise_heads(qkv_, config_.query_heads, weights.query_norm, 1);
}

result<void> cpu_operations::attend(std::uint32_t layer, const active_rows& active,
                                    forward_observer* observer) {
  attention_of_layer_.attend(layer, active, queries(), attention_, observer);
  return {};
}

result<void> cpu_operations::add_attention(std::uint32_t number, std::uint32_t rows) {
  const layer_weights& layer = weights_.layers[number];
  packed_.pack(attention_, rows, query_width_, query_width_, layer.attention_out.input_dtype(), pool_);
  return add_product(layer.attention_out, rows);
}

// To the residual stream. All ranks of a group have the same one: the first adds its part to it, the others
// bring theirs in its place, and the sum is what goes on.
result<void> cpu_operations::add_product(const kernels::linear& weights, std::uint32_t rows) {
  weights.apply(packed_, x_, config_.hidden_size, pool_,
                group_.is_first() ? kernels::write_mode::add : kernels::write_mode::overwrite);
  return group_.sum({x_, std::size_t{rows} * config_.hidden_size});
}

result<void> cpu_operations::add_mlp(std::uint32_t number, std::uint32_t rows) {
  const layer_weights& layer = weights_.layers[number];
  normalise(rows, layer.mlp_norm);
  packed_.pack(normed_, rows, config_.hidden_size, config_.hidden_size, layer.gate_up.input_dtype(), pool_);
  const std::size_t mlp_stride = std::size_t{2} * config_.intermediate_size;
  layer.gate_up.apply(packed_, mlp_, mlp_stride, pool_);
  packed_.pack_swiglu(mlp_, mlp_ + config_.intermediate_size, rows, config_.intermediate_size, mlp_stride,
                      layer.down.input_dtype(), pool_);
  return add_product(layer.down, rows);
}

result<void> cpu_operations::write_logits(std::uint32_t rows, std::span<float> logits) {
  normalise(rows, weights_.final_norm);
  packed_.pack(normed_, rows, config_.hidden_size, config_.hidden_size, weights_.output.input_dtype(), pool_);
  if (group_.alone()) {
    weights_.output.apply(packed_, logits.data(), config_.vocab_size, pool_);
    return {};
  }
  const std::uint32_t tokens = weights_.output.outputs();
  const std::span<float> own = group_.part(rows, tokens, config_.vocab_size);
  weights_.output.apply(packed_, own.data(), tokens, pool_);
  return group_.gather(rows, config_.vocab_size, logits);
}

}  // namespace weft::engine
