#include "device_attention.hpp"

#include "cache_mirror.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::uint32_t most_head_dim = 256;
constexpr std::uint32_t most_decode_group = 8;
constexpr std::uint32_t together = 8;  // elements that are moved at once

bool takes_heads(const kernels::attention_shape& shape) {
  return shape.head_dim % together == 0 && shape.head_dim <= most_head_dim;
}

// At most a quarter more, and as long again for a while.
std::size_t in_steps(std::size_t pieces) {
  constexpr std::size_t least = 16;
  const std::size_t step = std::max(std::bit_floor(pieces) / 4, least);
  return (pieces + step - 1) / step * step;
}

kernels::cuda::prefill_run prefill_run_of(const kv_cache& cache, std::uint32_t layer, std::uint32_t head) {
  const cache_mirror& there = mirror_of(cache);
  return {.k = there.at(cache.k_place(layer, head)),
          .v = there.at(cache.v_place(layer, head)),
          .positions = there.at(cache.positions(layer, head)),
          .segments = there.at(cache.segments(layer, head)),
          .rows = cache.rows(layer, head),
          .coding = cache.shape().coding,
          .k_scales = there.at(cache.k_scales(layer, head)),
          .v_scales = there.at(cache.v_scales(layer, head))};
}

}  // namespace

device_attention::device_attention(const kernels::attention_shape& shape,
                                   std::shared_ptr<device::device> owner, device_kernels& kernels,
                                   device::stream& stream, staging& lists)
    : shape_(shape), owner_(std::move(owner)), kernels_(kernels), stream_(stream), lists_(lists) {}

bool device_attention::takes_decode() const {
  return takes_heads(shape_) && shape_.query_heads / shape_.kv_heads <= most_decode_group;
}

bool device_attention::takes_prefill() const {
  return takes_heads(shape_) && shape_.kv_dtype != kernels::dtype::f32;
}

void device_attention::begin() {
  scratch_.settle();
  planned_rows_.clear();
  planned_runs_.clear();
}

void device_attention::add_run(const kv_cache& cache, std::uint32_t layer, std::uint32_t head) {
  const cache_mirror& there = mirror_of(cache);
  decode_runs_.push_back({.k = there.at(cache.k_place(layer, head)),
                          .v = there.at(cache.v_place(layer, head)),
                          .rows = cache.rows(layer, head),
                          .coding = cache.shape().coding,
                          .k_scales = there.at(cache.k_scales(layer, head)),
                          .v_scales = there.at(cache.v_scales(layer, head))});
  decode_rows_.back() += cache.rows(layer, head);
}

void device_attention::list_decode_runs(std::uint32_t layer, const active_rows& active,
                                        forward_observer* observer) {
  decode_rows_.clear();
  decode_runs_.clear();
  first_runs_.clear();
  for (const row_group& group : active.groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      first_runs_.push_back(decode_runs_.size());
      decode_rows_.push_back(0);
      for (const kv_cache* base = group.cache->base(); base != nullptr; base = base->base())
        add_run(*base, layer, head);
      add_run(std::as_const(*group.cache), layer, head);
      if (observer == nullptr) continue;
      for (const kernels::kv_run& run : observer->more_rows(layer, *group.cache, head)) {
        const std::size_t bytes =
            run.rows * kernels::code_bytes(run.coding, shape_.kv_dtype, shape_.head_dim);
        const std::size_t scales = run.rows * kernels::scales_per_row(run.coding, shape_.head_dim);
        decode_runs_.push_back({.k = lists_.add(std::span(run.k, bytes)),
                                .v = lists_.add(std::span(run.v, bytes)),
                                .rows = run.rows,
                                .coding = run.coding,
                                .k_scales = lists_.add(std::span(run.k_scales, scales)),
                                .v_scales = lists_.add(std::span(run.v_scales, scales))});
        decode_rows_.back() += run.rows;
      }
    }
  first_runs_.push_back(decode_runs_.size());
}

void device_attention::plan_decode(plan_sizes sizes) {
  if (decode_rows_ == planned_rows_) return;
  decode_plan_.assign(decode_rows_, kernels_.warps_at_once());
  planned_rows_ = decode_rows_;
  auto pieces = decode_plan_.pieces();
  if (sizes == plan_sizes::in_steps) {
    pieces_in_steps_.assign(pieces.begin(), pieces.end());
    pieces_in_steps_.resize(in_steps(pieces.size()));
    pieces = pieces_in_steps_;
  }
  decode_work_.pieces = lists_.add(pieces);
  decode_work_.first_piece = lists_.add(decode_plan_.first_piece());
  decode_work_.piece_count = static_cast<std::uint32_t>(pieces.size());
  decode_work_.head_count = decode_plan_.heads();
}

result<void> device_attention::decode(std::uint32_t layer, const active_rows& active, const device_rows& rows,
                                      forward_observer* observer) {
  const auto work = list_decode(layer, active, rows, observer, plan_sizes::exact);
  if (!work) return tl::unexpected(work.error());
  if (auto flushed = lists_.flush(); !flushed) return flushed;
  run_decode(*work);
  return {};
}

result<kernels::cuda::decode_work> device_attention::list_decode(std::uint32_t layer,
                                                                 const active_rows& active,
                                                                 const device_rows& rows,
                                                                 forward_observer* observer,
                                                                 plan_sizes sizes) {
  const std::uint32_t group = shape_.query_heads / shape_.kv_heads;
  const std::size_t group_width = std::size_t{group} * shape_.head_dim;
  list_decode_runs(layer, active, observer);
  plan_decode(sizes);
  const auto* const runs = lists_.add(std::span(std::as_const(decode_runs_)));
  decode_heads_.clear();
  for (std::size_t i = 0; i < decode_rows_.size(); ++i) {
    const std::size_t row = i / shape_.kv_heads;
    const std::size_t at = i % shape_.kv_heads * group_width;
    decode_heads_.push_back({.q = rows.q + row * rows.q_stride + at,
                             .out = rows.out + row * shape_.kv_heads * group_width + at,
                             .runs = runs + first_runs_[i],
                             .run_count = static_cast<std::uint32_t>(first_runs_[i + 1] - first_runs_[i])});
  }
  decode_work_.heads = lists_.add(std::span(std::as_const(decode_heads_)));
  const auto scratch = scratch_.reserve(
      *owner_, kernels::cuda::decode_plan::scratch_bytes(decode_work_.piece_count, group, shape_.head_dim),
      "the parts of a decode step's attention");
  if (!scratch) return tl::unexpected(scratch.error());
  decode_work_.scratch = reinterpret_cast<float*>(*scratch);
  return decode_work_;
}

void device_attention::plan_prefill(std::uint32_t lines) {
  if (run_rows_ == planned_runs_ && lines == planned_lines_) return;
  prefill_plan_.assign(run_rows_, lines, kernels_.blocks_at_once());
  planned_runs_ = run_rows_;
  planned_lines_ = lines;
  prefill_work_.tasks = lists_.add(prefill_plan_.tasks());
  prefill_work_.task_count = static_cast<std::uint32_t>(prefill_plan_.tasks().size());
  prefill_work_.merges = lists_.add(prefill_plan_.merges());
  prefill_work_.merge_count = static_cast<std::uint32_t>(prefill_plan_.merges().size());
}

result<void> device_attention::prefill(std::uint32_t layer, const active_rows& active, const row_group& group,
                                       const device_rows& rows) {
  prefill_runs_.clear();
  run_rows_.resize(shape_.kv_heads);
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
    run_rows_[head].clear();
    for (const kv_cache* cache = group.cache; cache != nullptr; cache = cache->base()) {
      prefill_runs_.push_back(prefill_run_of(*cache, layer, head));
      run_rows_[head].push_back(cache->rows(layer, head));
    }
  }
  plan_prefill(group.rows * (shape_.query_heads / shape_.kv_heads));
  const auto* const runs = lists_.add(std::span(std::as_const(prefill_runs_)));
  const auto runs_of_head = static_cast<std::uint32_t>(run_rows_.front().size());
  prefill_heads_.clear();
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
    prefill_heads_.push_back({.runs = runs + std::size_t{head} * runs_of_head, .run_count = runs_of_head});
  prefill_work_.heads = lists_.add(std::span(std::as_const(prefill_heads_)));
  prefill_work_.queries = {.q = rows.q + group.first_row * rows.q_stride,
                           .row_stride = rows.q_stride,
                           .rows = group.rows,
                           .positions = lists_.add(active.positions.subspan(group.first_row, group.rows)),
                           .segments = lists_.add(active.segments.subspan(group.first_row, group.rows))};
  const auto scratch = scratch_.reserve(*owner_, prefill_plan_.scratch_bytes(shape_.head_dim),
                                        "the parts of a prompt's attention");
  if (!scratch) return tl::unexpected(scratch.error());
  prefill_work_.scratch = reinterpret_cast<float*>(*scratch);
  if (auto flushed = lists_.flush(); !flushed) return flushed;
  const std::size_t width = std::size_t{shape_.query_heads} * shape_.head_dim;
  kernels_.attention_prefill(shape_, prefill_work_, rows.out + group.first_row * width, width, stream_);
  return {};
}

}  // namespace weft::engine
