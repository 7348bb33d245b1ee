#include "forward_pass.hpp"

#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/rms_norm.hpp>

#include "kv_cache_slots.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

namespace weft::engine {

namespace {

kernels::attention_shape attention_shape_of(const model_config& config, kernels::dtype kv_dtype,
                                            kernels::products allowed) {
  return {.query_heads = config.query_heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .kv_dtype = kv_dtype,
          .scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim)),
          .allowed = allowed};
}

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// One row's value as attention reads it.
void read_value(kv_cache& cache, std::uint32_t layer, std::uint32_t head, std::size_t row, float* out) {
  const kv_shape& shape = cache.shape();
  const std::byte* const codes = cache.v(layer, head) + row * shape.row_bytes();
  if (shape.coding == kernels::row_codec::raw)
    return kernels::to_f32(shape.dtype, codes, out, shape.head_dim);
  kernels::decode_rows(shape.coding, codes, cache.v_scales(layer, head) + row * shape.row_scales(), 1,
                       shape.head_dim, kernels::dtype::f32, reinterpret_cast<std::byte*>(out));
}

}  // namespace

forward_pass::forward_pass(const model_config& config, const model_weights& weights, const kv_shape& shape,
                           kernels::products allowed, std::span<const float> frequencies,
                           kernels::thread_pool& pool, collective::communicator* group)
    : config_(config),
      weights_(weights),
      shape_(shape),
      frequencies_(frequencies),
      pool_(pool),
      attention_shape_(attention_shape_of(config, shape.dtype, allowed)),
      group_(group),
      query_width_(config.query_heads * config.head_dim),
      key_width_(config.kv_heads * config.head_dim),
      qkv_width_(query_width_ + 2 * key_width_) {}

result<void> forward_pass::run(const row_chunk& chunk, std::span<float> logits, forward_observer* observer) {
  begin(chunk);
  embed(chunk);
  return run_layers(chunk, 0, logits, observer);
}

result<void> forward_pass::run_until(const row_chunk& chunk, std::uint32_t layer, float* stream,
                                     std::span<float> changes) {
  begin(chunk);
  embed(chunk);
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  const active_rows active{rows, chunk.positions, chunk.segments, chunk.groups, false, chunk.first_row};
  for (std::uint32_t earlier = 0; earlier < layer; ++earlier) {
    project(weights_.layers[earlier], rows);
    round_keys_and_values(rows);
    write_cache(earlier, chunk);
    attend(earlier, active, nullptr);
    if (auto added = add_attention(weights_.layers[earlier], rows); !added) return added;
    if (auto added = add_mlp(weights_.layers[earlier], rows); !added) return added;
  }
  std::memcpy(stream, x_, std::size_t{rows} * config_.hidden_size * sizeof(float));
  project(weights_.layers[layer], rows);
  round_keys_and_values(rows);
  measure_changes(layer, chunk, changes);
  write_cache(layer, chunk);
  // Ranks that keep the same head all count it, and all heads are kept by as many.
  return group_.sum(changes);
}

result<void> forward_pass::run_from(const row_chunk& chunk, std::uint32_t layer, const float* stream,
                                    std::span<const std::uint32_t> stream_rows, std::span<float> logits) {
  begin(chunk);
  const std::size_t width = config_.hidden_size;
  for (std::size_t row = 0; row < stream_rows.size(); ++row)
    std::memcpy(x_ + row * width, stream + stream_rows[row] * width, width * sizeof(float));
  return run_layers(chunk, layer, logits, nullptr);
}

void forward_pass::begin(const row_chunk& chunk) {
  reserve(static_cast<std::uint32_t>(chunk.tokens.size()));
  rotations_.assign(frequencies_, chunk.positions);
  planned_rows_.clear();
}

result<void> forward_pass::run_layers(const row_chunk& chunk, std::uint32_t first_layer,
                                      std::span<float> logits, forward_observer* observer) {
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  const bool counts = observer != nullptr && observer->counts_columns();
  active_rows active{
      rows, chunk.positions, chunk.segments, chunk.groups, chunk.decode_step && !counts, chunk.first_row};
  for (std::uint32_t layer = first_layer; layer < config_.layers; ++layer) {
    const layer_weights& weights = weights_.layers[layer];
    project(weights, rows);
    if (observer != nullptr) observer->layer_input(layer, chunk.first_row, rows, normed_);
    round_keys_and_values(rows);
    if (observer != nullptr) observer->layer_kv(layer, chunk.first_row, rows, k_, v_);
    write_cache(layer, chunk);
    if (observer != nullptr) observer->layer_queries(layer, chunk.first_row, rows, qkv_, qkv_width_);
    if (layer + 1 == config_.layers) {
      if (counts) count_columns(layer, chunk, *observer);
      active = keep_wanted(chunk);
    }
    if (active.rows == 0) return {};
    attend(layer, active, observer);
    if (auto added = add_attention(weights, active.rows); !added) return added;
    if (observer != nullptr && active.decode_step && layer + 1 < config_.layers)
      look_ahead(layer + 1, chunk, *observer);
    if (auto added = add_mlp(weights, active.rows); !added) return added;
  }
  normalise(active.rows, weights_.final_norm);
  packed_.pack(normed_, active.rows, config_.hidden_size, config_.hidden_size, weights_.output.input_dtype(),
               pool_);
  if (group_.alone()) {
    weights_.output.apply(packed_, logits.data(), config_.vocab_size, pool_);
    return {};
  }
  const std::uint32_t tokens = weights_.output.outputs();
  const std::span<float> own = group_.part(active.rows, tokens, config_.vocab_size);
  weights_.output.apply(packed_, own.data(), tokens, pool_);
  return group_.gather(active.rows, config_.vocab_size, logits);
}

void forward_pass::reserve(std::uint32_t rows) {
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
  row_numbers_.resize(rows);
  std::iota(row_numbers_.begin(), row_numbers_.end(), std::uint16_t{0});
  slots_.resize(rows);
  reserved_rows_ = rows;
}

void forward_pass::embed(const row_chunk& chunk) {
  const std::size_t width = config_.hidden_size;
  for (std::size_t row = 0; row < chunk.tokens.size(); ++row)
    weights_.embedding->row(chunk.tokens[row], {x_ + row * width, width});
}

void forward_pass::normalise(std::uint32_t rows, std::span<const float> weight) {
  kernels::rms_norm(x_, config_.hidden_size, normed_, config_.hidden_size, rows, 1, config_.hidden_size,
                    weight.data(), static_cast<float>(config_.rms_norm_eps), pool_);
}

void forward_pass::project(const layer_weights& layer, std::uint32_t rows) {
  project_first(layer, layer.qkv.outputs(), rows);
  if (!config_.qk_norm) return;
  const auto epsilon = static_cast<float>(config_.rms_norm_eps);
  float* keys = qkv_ + query_width_;
  kernels::rms_norm(keys, qkv_width_, keys, qkv_width_, rows, config_.kv_heads, config_.head_dim,
                    layer.key_norm.data(), epsilon, pool_);
}

// As many outputs as are wanted, queries first; queries are normalised.
void forward_pass::project_first(const layer_weights& layer, std::uint32_t outputs, std::uint32_t rows) {
  normalise(rows, layer.attention_norm);
  packed_.pack(normed_, rows, config_.hidden_size, config_.hidden_size, layer.qkv.input_dtype(), pool_);
  layer.qkv.apply_first(outputs, packed_, qkv_, qkv_width_, pool_);
  if (config_.qk_norm) normalise_queries(layer, rows);
}

void forward_pass::normalise_queries(const layer_weights& layer, std::uint32_t rows) {
  kernels::rms_norm(qkv_, qkv_width_, qkv_, qkv_width_, rows, config_.query_heads, config_.head_dim,
                    layer.query_norm.data(), static_cast<float>(config_.rms_norm_eps), pool_);
}

void forward_pass::round_keys_and_values(std::uint32_t rows) {
  const std::size_t row_bytes = key_width_ * kernels::size_bytes(shape_.dtype);
  for (std::uint32_t row = 0; row < rows; ++row) {
    const float* keys = qkv_ + std::size_t{row} * qkv_width_ + query_width_;
    kernels::from_f32(shape_.dtype, keys, k_ + row * row_bytes, key_width_);
    kernels::from_f32(shape_.dtype, keys + key_width_, v_ + row * row_bytes, key_width_);
  }
}

void forward_pass::measure_changes(std::uint32_t layer, const row_chunk& chunk, std::span<float> changes) {
  const std::size_t head_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
  std::vector<float> fresh(shape_.head_dim), cached(shape_.head_dim);
  std::ranges::fill(changes, 0.0F);
  for (const row_group& group : chunk.groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::int32_t* const first = group.cache->positions(layer, head);
      const std::int32_t* const last = first + group.cache->rows(layer, head);
      const std::int32_t* at = first;
      for (std::uint32_t i = 0; i < group.rows; ++i) {
        const std::size_t row = group.first_row + i;
        at = std::lower_bound(at, last, chunk.positions[row]);
        if (at == last) break;
        if (*at != chunk.positions[row]) continue;
        kernels::to_f32(shape_.dtype, v_ + (row * shape_.kv_heads + head) * head_bytes, fresh.data(),
                        shape_.head_dim);
        read_value(*group.cache, layer, head, static_cast<std::size_t>(at - first), cached.data());
        changes[row] += std::transform_reduce(fresh.begin(), fresh.end(), cached.begin(), 0.0F, std::plus<>(),
                                              [](float a, float b) { return (a - b) * (a - b); });
      }
    }
}

// Keys are rotated from their rounded form by the kernel that also loads them out of the pool: what attends
// is the same, bit for bit, whether it was computed here or came from there.
void forward_pass::write_cache(std::uint32_t layer, const row_chunk& chunk) {
  const std::size_t head_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
  scatters_.clear();
  for (const row_group& group : chunk.groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::span<std::uint32_t> slots(slots_.data(), group.rows);
      open_slots(*group.cache, layer, head, chunk.positions.subspan(group.first_row, group.rows),
                 chunk.segments.subspan(group.first_row, group.rows), slots);
      for (std::uint32_t begin = 0, end = 0; begin < group.rows; begin = end) {
        for (end = begin + 1; end < group.rows && slots[end] == slots[end - 1] + 1;)
          ++end;
        const std::size_t row = group.first_row + begin;
        const std::size_t source = (row * shape_.kv_heads + head) * head_bytes;
        const kv_shape& target = group.cache->shape();
        const std::size_t slot = slots[begin];
        scatters_.push_back(
            {.k = k_ + source,
             .v = v_ + source,
             .source_row_stride = key_width_,
             .entries = row_numbers_.data() + row,
             .rows = end - begin,
             .rotations = &rotations_,
             .k_out = group.cache->k(layer, head) + slot * target.row_bytes(),
             .v_out = group.cache->v(layer, head) + slot * target.row_bytes(),
             .coding_out = target.coding,
             .k_scales_out = group.cache->k_scales(layer, head) + slot * target.row_scales(),
             .v_scales_out = group.cache->v_scales(layer, head) + slot * target.row_scales()});
      }
    }
  kernels::rotate_scatter(scatters_, shape_.dtype, pool_);
  kernels::rotate(qkv_, qkv_width_, static_cast<std::uint32_t>(chunk.tokens.size()), config_.query_heads,
                  rotations_, pool_);
}

// Nobody reads what the last layer makes of the other rows. Rows only move towards the front.
forward_pass::active_rows forward_pass::keep_wanted(const row_chunk& chunk) {
  wanted_positions_.clear();
  wanted_segments_.clear();
  wanted_groups_.clear();
  for (const std::uint32_t row : chunk.wanted) {
    const auto kept = static_cast<std::uint32_t>(wanted_positions_.size());
    const auto group =
        std::ranges::find_if(chunk.groups, [row](const row_group& g) { return row - g.first_row < g.rows; });
    if (wanted_groups_.empty() || wanted_groups_.back().cache != group->cache)
      wanted_groups_.push_back({group->cache, kept, 0});
    ++wanted_groups_.back().rows;
    wanted_positions_.push_back(chunk.positions[row]);
    wanted_segments_.push_back(chunk.segments[row]);
    if (kept == row) continue;
    std::memcpy(x_ + std::size_t{kept} * config_.hidden_size, x_ + std::size_t{row} * config_.hidden_size,
                config_.hidden_size * sizeof(float));
    std::memcpy(qkv_ + std::size_t{kept} * qkv_width_, qkv_ + std::size_t{row} * qkv_width_,
                query_width_ * sizeof(float));
  }
  return {static_cast<std::uint32_t>(chunk.wanted.size()), wanted_positions_, wanted_segments_,
          wanted_groups_, chunk.decode_step};
}

// The residual stream without this layer's MLP, read as if it were the next layer's.
void forward_pass::look_ahead(std::uint32_t layer, const row_chunk& chunk, forward_observer& observer) {
  if (!observer.wants_queries_ahead()) return;
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  ahead_.resize(std::size_t{rows} * qkv_width_);
  float* const own = std::exchange(qkv_, ahead_.data());
  if (rows == 1 && observer.estimates_suffice() && kernels::rough_linear::is_fast())
    estimate_queries(layer);
  else
    project_first(weights_.layers[layer], query_width_, rows);
  kernels::rotate(qkv_, qkv_width_, rows, config_.query_heads, rotations_, pool_);
  qkv_ = own;
  observer.queries_ahead(layer, chunk.first_row, rows, ahead_.data(), qkv_width_);
}

// Of one row: an estimate needs no more of its weights than a quarter of their bytes.
void forward_pass::estimate_queries(std::uint32_t layer) {
  const auto& weights = weights_.layers[layer];
  rough_queries_.resize(config_.layers);
  auto& rough = rough_queries_[layer];
  if (!rough) rough.emplace(weights.qkv, query_width_, pool_);
  normalise(1, weights.attention_norm);
  rough->apply(normed_, qkv_, pool_);
  if (config_.qk_norm) normalise_queries(weights, 1);
}

void forward_pass::attend(std::uint32_t layer, const active_rows& active, forward_observer* observer) {
  if (active.decode_step)
    attend_decode(layer, active, observer);
  else
    attend_prefill(layer, active, observer);
}

// What each query head group of the step sees: its cache's rows, and what the observer adds to them.
void forward_pass::list_decode_runs(std::uint32_t layer, const active_rows& active,
                                    forward_observer* observer) {
  decode_rows_.clear();
  decode_runs_.clear();
  first_runs_.clear();
  for (const row_group& group : active.groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      std::uint32_t rows = group.cache->rows(layer, head);
      first_runs_.push_back(decode_runs_.size());
      for (const kv_cache* base = group.cache->base(); base != nullptr; base = base->base()) {
        decode_runs_.push_back(base->run(layer, head));
        rows += base->rows(layer, head);
      }
      decode_runs_.push_back(group.cache->run(layer, head));
      if (observer != nullptr)
        for (const kernels::kv_run& run : observer->more_rows(layer, *group.cache, head)) {
          decode_runs_.push_back(run);
          rows += run.rows;
        }
      decode_rows_.push_back(rows);
    }
  first_runs_.push_back(decode_runs_.size());
}

void forward_pass::attend_decode(std::uint32_t layer, const active_rows& active, forward_observer* observer) {
  const std::size_t group_width = query_width_ / config_.kv_heads;
  list_decode_runs(layer, active, observer);
  decode_heads_.clear();
  for (std::size_t i = 0; i < decode_rows_.size(); ++i) {
    const std::size_t row = i / shape_.kv_heads;
    const std::size_t head = i % shape_.kv_heads;
    decode_heads_.push_back(
        {.q = qkv_ + row * qkv_width_ + head * group_width,
         .out = attention_ + row * query_width_ + head * group_width,
         .runs = std::span(decode_runs_).subspan(first_runs_[i], first_runs_[i + 1] - first_runs_[i])});
  }
  if (decode_rows_ != planned_rows_) {
    decode_plan_.assign(decode_rows_, attention_shape_);
    planned_rows_ = decode_rows_;
  }
  kernels::attention_decode(attention_shape_, decode_plan_, decode_heads_,
                            scratch_.reserve(decode_plan_.scratch_bytes()), pool_);
}

// The rows of a group's cache, as prefill attention reads them, behind those of the caches before it.
void forward_pass::list_prefill_heads(std::uint32_t layer, const row_group& group) {
  const auto rows_of = [layer](const kv_cache& cache, std::uint32_t head) {
    const kernels::kv_run run = cache.run(layer, head);
    return kernels::prefill_kv_head{.k = run.k,
                                    .v = run.v,
                                    .rows = run.rows,
                                    .positions = cache.positions(layer, head),
                                    .segments = cache.segments(layer, head),
                                    .coding = run.coding,
                                    .k_scales = run.k_scales,
                                    .v_scales = run.v_scales};
  };
  std::size_t bases = 0;
  for (const kv_cache* base = group.cache->base(); base != nullptr; base = base->base())
    ++bases;
  prefill_heads_.clear();
  base_heads_.clear();
  base_heads_.reserve(bases * shape_.kv_heads);  // they point at one another
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
    prefill_heads_.push_back(rows_of(*group.cache, head));
    kernels::prefill_kv_head* behind = &prefill_heads_.back();
    for (const kv_cache* base = group.cache->base(); base != nullptr; base = base->base()) {
      base_heads_.push_back(rows_of(*base, head));
      behind->before = &base_heads_.back();
      behind = &base_heads_.back();
    }
  }
}

kernels::prefill_queries forward_pass::queries_of(const row_group& group,
                                                  std::span<const std::int32_t> positions,
                                                  std::span<const std::int32_t> segments) const {
  return {.q = qkv_ + std::size_t{group.first_row} * qkv_width_,
          .row_stride = qkv_width_,
          .rows = group.rows,
          .positions = positions.data() + group.first_row,
          .segments = segments.data() + group.first_row};
}

void forward_pass::attend_prefill(std::uint32_t layer, const active_rows& active,
                                  forward_observer* observer) {
  for (const row_group& group : active.groups) {
    list_prefill_heads(layer, group);
    const kernels::prefill_queries queries = queries_of(group, active.positions, active.segments);
    float* const out = attention_ + std::size_t{group.first_row} * query_width_;
    const kernels::column_count* count = nullptr;
    if (observer != nullptr && observer->counts_columns() && layer + 1 < config_.layers)
      count = observer->columns_to_count(layer, active.first_row + group.first_row, group.rows);
    if (count != nullptr)
      kernels::attention_counted(attention_shape_, queries, prefill_heads_, *count, out, query_width_,
                                 scratch_, pool_);
    else
      kernels::attention_prefill(attention_shape_, queries, prefill_heads_, out, query_width_, scratch_,
                                 pool_);
    if (observer != nullptr) add_parts(layer, group, queries, *observer);
  }
}

// The last layer's, of all rows: most of them do not attend.
void forward_pass::count_columns(std::uint32_t layer, const row_chunk& chunk, forward_observer& observer) {
  for (const row_group& group : chunk.groups) {
    const auto* const count = observer.columns_to_count(layer, chunk.first_row + group.first_row, group.rows);
    if (count == nullptr) continue;
    list_prefill_heads(layer, group);
    kernels::attention_counted(attention_shape_, queries_of(group, chunk.positions, chunk.segments),
                               prefill_heads_, *count, nullptr, 0, scratch_, pool_);
  }
}

// A softmax over rows in several places: each place's result counts with its share of the exponentials.
void forward_pass::add_parts(std::uint32_t layer, const row_group& group,
                             const kernels::prefill_queries& queries, forward_observer& observer) {
  auto part = observer.next_part(layer, *group.cache);
  if (part.empty()) return;
  const std::size_t lines = std::size_t{group.rows} * config_.query_heads;
  log_sums_.resize(lines);
  part_sums_.resize(lines);
  part_.resize(std::size_t{group.rows} * query_width_);
  kernels::attention_log_sums(attention_shape_, queries, prefill_heads_, false, log_sums_, scratch_, pool_);
  float* const out = attention_ + std::size_t{group.first_row} * query_width_;
  for (; !part.empty(); part = observer.next_part(layer, *group.cache)) {
    kernels::attention_prefill(attention_shape_, queries, part, part_.data(), query_width_, scratch_, pool_);
    kernels::attention_log_sums(attention_shape_, queries, part, false, part_sums_, scratch_, pool_);
    for (std::size_t line = 0; line < lines; ++line) {
      const float before = log_sums_[line];
      const float more = part_sums_[line];
      if (more == -std::numeric_limits<float>::infinity()) continue;
      const float largest = std::max(before, more);
      const float kept = std::exp(before - largest);
      const float added = std::exp(more - largest);
      const float total = kept + added;
      float* const to = out + line * config_.head_dim;
      const float* const from = part_.data() + line * config_.head_dim;
      for (std::uint32_t i = 0; i < config_.head_dim; ++i)
        to[i] = (to[i] * kept + from[i] * added) / total;
      log_sums_[line] = largest + std::log(total);
    }
  }
}

result<void> forward_pass::add_attention(const layer_weights& layer, std::uint32_t rows) {
  packed_.pack(attention_, rows, query_width_, query_width_, layer.attention_out.input_dtype(), pool_);
  return add_product(layer.attention_out, rows);
}

// To the residual stream, what the ranks' parts of a product amount to.
result<void> forward_pass::add_product(const kernels::linear& weights, std::uint32_t rows) {
  if (group_.alone()) {
    weights.apply(packed_, x_, config_.hidden_size, pool_, kernels::write_mode::add);
    return {};
  }
  const std::span<float> product = group_.product(std::size_t{rows} * config_.hidden_size);
  weights.apply(packed_, product.data(), config_.hidden_size, pool_);
  if (auto summed = group_.sum(product); !summed) return summed;
  for (std::size_t i = 0; i < product.size(); ++i)
    x_[i] += product[i];
  return {};
}

result<void> forward_pass::add_mlp(const layer_weights& layer, std::uint32_t rows) {
  normalise(rows, layer.mlp_norm);
  packed_.pack(normed_, rows, config_.hidden_size, config_.hidden_size, layer.gate_up.input_dtype(), pool_);
  const std::size_t mlp_stride = std::size_t{2} * config_.intermediate_size;
  layer.gate_up.apply(packed_, mlp_, mlp_stride, pool_);
  packed_.pack_swiglu(mlp_, mlp_ + config_.intermediate_size, rows, config_.intermediate_size, mlp_stride,
                      layer.down.input_dtype(), pool_);
  return add_product(layer.down, rows);
}

}  // namespace weft::engine
