#include "layer_attention.hpp"

#include <weft/kernels/attention_columns.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace weft::engine {

namespace {

kernels::prefill_queries queries_of(const row_group& group, const shown_queries& queries,
                                    std::span<const std::int32_t> positions,
                                    std::span<const std::int32_t> segments) {
  return {.q = queries.q + std::size_t{group.first_row} * queries.row_stride,
          .row_stride = queries.row_stride,
          .rows = group.rows,
          .positions = positions.data() + group.first_row,
          .segments = segments.data() + group.first_row};
}

}  // namespace

kernels::attention_shape attention_shape_of(const model_config& config, kernels::dtype kv_dtype,
                                            kernels::products allowed) {
  return {.query_heads = config.query_heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .kv_dtype = kv_dtype,
          .scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim)),
          .allowed = allowed};
}

layer_attention::layer_attention(const kernels::attention_shape& shape, std::uint32_t layers,
                                 kernels::thread_pool& pool)
    : shape_(shape),
      layers_(layers),
      query_width_(std::size_t{shape.query_heads} * shape.head_dim),
      pool_(pool) {}

void layer_attention::attend(std::uint32_t layer, const active_rows& active, const shown_queries& queries,
                             float* out, forward_observer* observer) {
  if (active.decode_step)
    attend_decode(layer, active, queries, out, observer);
  else
    attend_prefill(layer, active, queries, out, observer);
}

// What each query head group of the step sees: its cache's rows, and what the observer adds to them.
void layer_attention::list_decode_runs(std::uint32_t layer, const active_rows& active,
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

void layer_attention::attend_decode(std::uint32_t layer, const active_rows& active,
                                    const shown_queries& queries, float* out, forward_observer* observer) {
  const std::size_t group_width = query_width_ / shape_.kv_heads;
  list_decode_runs(layer, active, observer);
  decode_heads_.clear();
  for (std::size_t i = 0; i < decode_rows_.size(); ++i) {
    const std::size_t row = i / shape_.kv_heads;
    const std::size_t head = i % shape_.kv_heads;
    decode_heads_.push_back(
        {.q = queries.q + row * queries.row_stride + head * group_width,
         .out = out + row * query_width_ + head * group_width,
         .runs = std::span(decode_runs_).subspan(first_runs_[i], first_runs_[i + 1] - first_runs_[i])});
  }
  if (decode_rows_ != planned_rows_) {
    decode_plan_.assign(decode_rows_, shape_);
    planned_rows_ = decode_rows_;
  }
  kernels::attention_decode(shape_, decode_plan_, decode_heads_,
                            scratch_.reserve(decode_plan_.scratch_bytes()), pool_);
}

// The rows of a group's cache, as prefill attention reads them, behind those of the caches before it.
void layer_attention::list_prefill_heads(std::uint32_t layer, const row_group& group) {
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

void layer_attention::attend_prefill(std::uint32_t layer, const active_rows& active,
                                     const shown_queries& queries, float* out, forward_observer* observer) {
  for (const row_group& group : active.groups) {
    list_prefill_heads(layer, group);
    const kernels::prefill_queries own = queries_of(group, queries, active.positions, active.segments);
    float* const found = out + std::size_t{group.first_row} * query_width_;
    const kernels::column_count* count = nullptr;
    if (observer != nullptr && observer->counts_columns() && layer + 1 < layers_)
      count = observer->columns_to_count(layer, active.first_row + group.first_row, group.rows);
    if (count != nullptr)
      kernels::attention_counted(shape_, own, prefill_heads_, *count, found, query_width_, scratch_, pool_);
    else
      kernels::attention_prefill(shape_, own, prefill_heads_, found, query_width_, scratch_, pool_);
    if (observer == nullptr) continue;
    if (const auto part = observer->next_part(layer, *group.cache); !part.empty())
      add_parts(layer, group, active, queries, part, out, *observer);
  }
}

void layer_attention::count_columns(std::uint32_t layer, const row_chunk& chunk, const shown_queries& queries,
                                    forward_observer& observer) {
  for (const row_group& group : chunk.groups) {
    const auto* const count = observer.columns_to_count(layer, chunk.first_row + group.first_row, group.rows);
    if (count == nullptr) continue;
    list_prefill_heads(layer, group);
    kernels::attention_counted(shape_, queries_of(group, queries, chunk.positions, chunk.segments),
                               prefill_heads_, *count, nullptr, 0, scratch_, pool_);
  }
}

// A softmax over rows in several places: each place's result counts with its share of the exponentials.
void layer_attention::add_parts(std::uint32_t layer, const row_group& group, const active_rows& active,
                                const shown_queries& queries, std::span<const kernels::prefill_kv_head> part,
                                float* out, forward_observer& observer) {
  const std::size_t lines = std::size_t{group.rows} * shape_.query_heads;
  log_sums_.resize(lines);
  part_sums_.resize(lines);
  part_.resize(group.rows * query_width_);
  const kernels::prefill_queries own = queries_of(group, queries, active.positions, active.segments);
  list_prefill_heads(layer, group);
  kernels::attention_log_sums(shape_, own, prefill_heads_, false, log_sums_, scratch_, pool_);
  for (; !part.empty(); part = observer.next_part(layer, *group.cache))
    add_part(own, part, out + std::size_t{group.first_row} * query_width_);
}

void layer_attention::add_part(const kernels::prefill_queries& queries,
                               std::span<const kernels::prefill_kv_head> part, float* out) {
  kernels::attention_prefill(shape_, queries, part, part_.data(), query_width_, scratch_, pool_);
  kernels::attention_log_sums(shape_, queries, part, false, part_sums_, scratch_, pool_);
  for (std::size_t line = 0; line < log_sums_.size(); ++line) {
    const float before = log_sums_[line];
    const float more = part_sums_[line];
    if (more == -std::numeric_limits<float>::infinity()) continue;
    const float largest = std::max(before, more);
    const float kept = std::exp(before - largest);
    const float added = std::exp(more - largest);
    const float total = kept + added;
    float* const to = out + line * shape_.head_dim;
    const float* const from = part_.data() + line * shape_.head_dim;
    for (std::uint32_t i = 0; i < shape_.head_dim; ++i)
      to[i] = (to[i] * kept + from[i] * added) / total;
    log_sums_[line] = largest + std::log(total);
  }
}

}  // namespace weft::engine
