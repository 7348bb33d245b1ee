#include "llama_layers.hpp"

#include <weft/kernels/convert.hpp>
#include <weft/kernels/rms_norm.hpp>

#include "kernels_run.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace weft::bench {

using namespace kernels;

namespace {

constexpr std::uint32_t q_columns = llama_layers::query_heads * llama_layers::head_dim;
constexpr std::uint32_t kv_columns = llama_layers::kv_heads * llama_layers::head_dim;
constexpr std::uint32_t qkv_columns = q_columns + 2 * kv_columns;
constexpr float epsilon = 1e-5F;

// Rows of one pass through the layers, as the engine takes them.
constexpr std::uint32_t chunk_rows = 512;

linear random_linear(const aligned_buffer& source, std::uint32_t inputs, std::uint32_t outputs,
                     thread_pool& pool) {
  // The same values again where the source ends: the bytes that a product reads are its own.
  const std::size_t row_bytes = std::size_t{inputs} * 2;
  const auto rows_of_source = static_cast<std::uint32_t>(source.size_bytes() / row_bytes);
  std::vector<weight_part> parts;
  for (std::uint32_t done = 0; done < outputs; done += parts.back().outputs) {
    parts.push_back({source.data(), std::min(rows_of_source, outputs - done)});
  }
  return linear(parts, dtype::bf16, inputs, products::automatic, pool);
}

}  // namespace

llama_layers::llama_layers(std::uint32_t layers, std::uint32_t cache_rows, thread_pool& pool)
    : pool_(pool),
      layers_(layers),
      frequencies_(rope_frequencies({.theta = 500000.0}, head_dim)),
      norm_(hidden, 1.0F),
      logits_(vocabulary) {
  const aligned_buffer source = random_bf16(std::size_t{2048} * 8192 * 2, pool);
  for (layer& l : layers_) {
    l.qkv = random_linear(source, hidden, qkv_columns, pool);
    l.o = random_linear(source, q_columns, hidden, pool);
    l.gate_up = random_linear(source, hidden, 2 * intermediate, pool);
    l.down = random_linear(source, intermediate, hidden, pool);
    for (std::uint32_t head = 0; head < kv_heads; ++head) {
      l.k.push_back(random_bf16(std::size_t{cache_rows} * head_dim * 2, pool));
      l.v.push_back(random_bf16(std::size_t{cache_rows} * head_dim * 2, pool));
    }
  }
  vocabulary_ = random_linear(source, hidden, vocabulary, pool);
}

std::size_t llama_layers::weight_bytes() const {
  std::size_t bytes = vocabulary_.allocated_bytes();
  for (const layer& l : layers_) {
    bytes += l.qkv.allocated_bytes() + l.o.allocated_bytes() + l.gate_up.allocated_bytes() +
             l.down.allocated_bytes();
  }
  return bytes;
}

std::size_t llama_layers::cache_row_bytes() const {
  return layers_.size() * kv_heads * head_dim * 2 * 2;
}

attention_shape llama_layers::attention() const {
  attention_shape shape;
  shape.query_heads = query_heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = head_dim;
  shape.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  return shape;
}

void llama_layers::resize(std::uint32_t rows) {
  state_.assign(std::size_t{rows} * hidden, 0.1F);
  normed_.resize(std::size_t{rows} * hidden);
  qkv_.resize(std::size_t{rows} * qkv_columns);
  mixed_.resize(std::size_t{rows} * q_columns);
  gate_up_.resize(std::size_t{rows} * 2 * intermediate);
  gated_.resize(std::size_t{rows} * intermediate);
  narrow_.resize(std::size_t{rows} * 2 * kv_columns * 2);
}

void llama_layers::multiply(const linear& weights, const std::vector<float>& x, std::uint32_t rows,
                            std::vector<float>& y, write_mode mode) {
  input_.pack(x.data(), rows, weights.inputs(), weights.inputs(), weights.input_dtype(), pool_);
  weights.apply(input_, y.data(), weights.outputs(), pool_, mode);
}

void llama_layers::write_cache(layer& l, std::uint32_t first_row, std::uint32_t rows) {
  pool_.parallel_for(rows, [&](std::size_t row, unsigned) {
    from_f32(dtype::bf16, qkv_.data() + row * qkv_columns + q_columns,
             narrow_.data() + row * 2 * kv_columns * 2, std::size_t{2} * kv_columns);
  });
  std::vector<scatter_rows> items(kv_heads);
  const std::size_t offset = std::size_t{first_row} * head_dim * 2;
  for (std::uint32_t head = 0; head < kv_heads; ++head) {
    items[head] = {.k = narrow_.data() + std::size_t{head} * head_dim * 2,
                   .v = narrow_.data() + (std::size_t{kv_columns} + std::size_t{head} * head_dim) * 2,
                   .source_row_stride = 2 * kv_columns,
                   .rows = rows,
                   .rotations = &rotations_,
                   .k_out = l.k[head].data() + offset,
                   .v_out = l.v[head].data() + offset};
  }
  rotate_scatter(items, dtype::bf16, pool_);
}

void llama_layers::attend_prefill(layer& l, std::uint32_t first_row, std::uint32_t rows) {
  std::vector<prefill_kv_head> heads(kv_heads);
  for (std::uint32_t head = 0; head < kv_heads; ++head) {
    heads[head] = {l.k[head].data(), l.v[head].data(), first_row + rows, positions_.data(), segments_.data()};
  }
  const prefill_queries queries{qkv_.data(), qkv_columns, rows, positions_.data() + first_row,
                                segments_.data() + first_row};
  attention_prefill(attention(), queries, heads, mixed_.data(), q_columns, scratch_, pool_);
}

void llama_layers::attend_decode(layer& l, std::uint32_t depth) {
  std::vector<kv_run> runs(kv_heads);
  std::vector<decode_head> heads(kv_heads);
  const std::size_t group_columns = q_columns / kv_heads;
  for (std::uint32_t head = 0; head < kv_heads; ++head) {
    runs[head] = {l.k[head].data(), l.v[head].data(), depth + 1};
    heads[head] = {
        qkv_.data() + head * group_columns, mixed_.data() + head * group_columns, {&runs[head], 1}};
  }
  attention_decode(attention(), plan_, heads, scratch_.reserve(plan_.scratch_bytes()), pool_);
}

void llama_layers::run_layer(layer& l, std::uint32_t first_row, std::uint32_t rows) {
  rms_norm(state_.data(), hidden, normed_.data(), hidden, rows, 1, hidden, norm_.data(), epsilon, pool_);
  multiply(l.qkv, normed_, rows, qkv_, write_mode::overwrite);
  rotate(qkv_.data(), qkv_columns, rows, query_heads, rotations_, pool_);
  write_cache(l, first_row, rows);
  if (rows == 1) {
    attend_decode(l, first_row);
  } else {
    attend_prefill(l, first_row, rows);
  }
  multiply(l.o, mixed_, rows, state_, write_mode::add);
  rms_norm(state_.data(), hidden, normed_.data(), hidden, rows, 1, hidden, norm_.data(), epsilon, pool_);
  multiply(l.gate_up, normed_, rows, gate_up_, write_mode::overwrite);
  input_.pack_swiglu(gate_up_.data(), gate_up_.data() + intermediate, rows, intermediate,
                     std::size_t{2} * intermediate, l.down.input_dtype(), pool_);
  l.down.apply(input_, state_.data(), hidden, pool_, write_mode::add);
}

void llama_layers::prefill(std::uint32_t rows) {
  positions_.resize(rows);
  std::iota(positions_.begin(), positions_.end(), 0);
  segments_.assign(rows, 0);
  for (std::uint32_t first = 0; first < rows; first += chunk_rows) {
    const std::uint32_t count = std::min(chunk_rows, rows - first);
    resize(count);
    rotations_.assign(frequencies_, std::span(positions_).subspan(first, count));
    for (layer& l : layers_)
      run_layer(l, first, count);
  }
}

void llama_layers::prefill_products(std::uint32_t rows) {
  for (std::uint32_t first = 0; first < rows; first += chunk_rows) {
    const std::uint32_t count = std::min(chunk_rows, rows - first);
    resize(count);
    for (layer& l : layers_) {
      multiply(l.qkv, normed_, count, qkv_, write_mode::overwrite);
      multiply(l.o, mixed_, count, state_, write_mode::overwrite);
      multiply(l.gate_up, normed_, count, gate_up_, write_mode::overwrite);
      multiply(l.down, gated_, count, state_, write_mode::overwrite);
    }
  }
}

void llama_layers::decode(std::uint32_t depth) {
  resize(1);
  rotations_.assign(frequencies_, static_cast<std::int32_t>(depth), 1);
  plan_.assign(std::vector<std::uint32_t>(kv_heads, depth + 1), attention());
  for (layer& l : layers_)
    run_layer(l, depth, 1);
  multiply(vocabulary_, state_, 1, logits_, write_mode::overwrite);
}

}  // namespace weft::bench
