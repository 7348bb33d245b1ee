#include "column_counting.hpp"

#include "cache_mirror.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::size_t least_pinned_floats = std::size_t{1} << 18U;

void check(const kv_cache& cache, std::uint32_t layer, const kernels::column_count& count) {
  for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
    for (const kernels::row_range& range : {count.counted[0], count.counted[1], count.beside})
      if (range.begin > range.end || range.end > cache.rows(layer, head))
        throw std::invalid_argument("columns are counted of rows that the cache has not");
}

kernels::cuda::prefill_run run_of(const kv_cache& cache, std::uint32_t layer, std::uint32_t head,
                                  const kernels::row_range& range) {
  const cache_mirror& there = mirror_of(cache);
  const std::size_t first_byte = range.begin * cache.shape().row_bytes();
  return {.k = there.at(cache.k_place(layer, head)) + first_byte,
          .v = there.at(cache.v_place(layer, head)) + first_byte,
          .positions = there.at(cache.positions(layer, head)) + range.begin,
          .segments = there.at(cache.segments(layer, head)) + range.begin,
          .rows = range.rows()};
}

// The rows that are counted.
kernels::prefill_queries without_first(const kernels::prefill_queries& queries, std::uint32_t rows) {
  return {.q = queries.q + rows * queries.row_stride,
          .row_stride = queries.row_stride,
          .rows = queries.rows - rows,
          .positions = queries.positions + rows,
          .segments = queries.segments + rows};
}

}  // namespace

column_counting::column_counting(const kernels::attention_shape& shape, std::shared_ptr<device::device> owner,
                                 device_kernels& kernels, device::stream& stream, staging& lists)
    : shape_(shape), owner_(std::move(owner)), kernels_(kernels), stream_(stream), lists_(lists) {}

void column_counting::begin() {
  scratch_.settle();
  sums_.settle();
  columns_.settle();
  planned_runs_.clear();
  found_.clear();
  if (pinned_.size() > 1) pinned_.erase(pinned_.begin(), pinned_.end() - 1);
  pinned_floats_ = 0;
}

result<void> column_counting::count(std::uint32_t layer, const kv_cache& cache,
                                    const kernels::prefill_queries& queries,
                                    const kernels::column_count& count) {
  check(cache, layer, count);
  if (count.first_query >= queries.rows) return {};
  const kernels::prefill_queries counting = without_first(queries, count.first_query);
  const auto log_sums = sum_lines(layer, cache, counting, count);
  if (!log_sums) return tl::unexpected(log_sums.error());
  return find_columns(layer, cache, counting, count, *log_sums);
}

void column_counting::plan_lines(const std::vector<std::uint32_t>& run_rows, std::uint32_t lines) {
  if (run_rows == planned_runs_ && lines == planned_lines_) return;
  const std::vector<std::vector<std::uint32_t>> heads(shape_.kv_heads, run_rows);
  plan_.assign(heads, lines, kernels_.blocks_at_once());
  planned_runs_ = run_rows;
  planned_lines_ = lines;
  sums_work_.tasks = lists_.add(plan_.tasks());
  sums_work_.task_count = static_cast<std::uint32_t>(plan_.tasks().size());
  sums_work_.merges = lists_.add(plan_.merges());
  sums_work_.merge_count = static_cast<std::uint32_t>(plan_.merges().size());
}

// Over all rows of the softmax.
result<const float*> column_counting::sum_lines(std::uint32_t layer, const kv_cache& cache,
                                                const kernels::prefill_queries& queries,
                                                const kernels::column_count& count) {
  const std::array ranges{count.counted[0], count.counted[1], count.beside};
  std::vector<std::uint32_t> run_rows;
  run_rows.reserve(ranges.size());
  for (const kernels::row_range& range : ranges)
    run_rows.push_back(range.rows());
  plan_lines(run_rows, queries.rows * (shape_.query_heads / shape_.kv_heads));
  runs_.clear();
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
    for (const kernels::row_range& range : ranges)
      runs_.push_back(run_of(cache, layer, head, range));
  const auto* const runs = lists_.add(std::span(std::as_const(runs_)));
  heads_.clear();
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
    heads_.push_back({.runs = runs + head * ranges.size(), .run_count = ranges.size()});
  sums_work_.heads = lists_.add(std::span(std::as_const(heads_)));
  sums_work_.queries = queries;
  const auto scratch =
      scratch_.reserve(*owner_, plan_.scratch_bytes(0), "the parts of sums of a prompt's attention");
  if (!scratch) return tl::unexpected(scratch.error());
  sums_work_.scratch = reinterpret_cast<float*>(*scratch);
  const auto sums = sums_.reserve(*owner_, std::size_t{queries.rows} * shape_.query_heads * sizeof(float),
                                  "the sums of a prompt's attention");
  if (!sums) return tl::unexpected(sums.error());
  if (auto flushed = lists_.flush(); !flushed) return tl::unexpected(flushed.error());
  auto* const log_sums = reinterpret_cast<float*>(*sums);
  kernels_.attention_log_sums(shape_, sums_work_, log_sums, stream_);
  return log_sums;
}

result<void> column_counting::find_columns(std::uint32_t layer, const kv_cache& cache,
                                           const kernels::prefill_queries& queries,
                                           const kernels::column_count& count, const float* log_sums) {
  const std::size_t columns = std::size_t{count.counted[0].rows()} + count.counted[1].rows();
  if (columns == 0) return {};
  const std::size_t floats = shape_.query_heads * columns;
  const auto there = columns_.reserve(*owner_, floats * sizeof(float), "columns of a prompt's attention");
  if (!there) return tl::unexpected(there.error());
  kernels::cuda::column_work work{.queries = queries,
                                  .log_sums = log_sums,
                                  .out = reinterpret_cast<float*>(*there),
                                  .out_stride = columns,
                                  .replaces = true};
  if (!count.log_weights.empty())
    work.log_weights = lists_.add(count.log_weights.subspan(count.first_query, queries.rows));
  std::array<const kernels::cuda::prefill_run*, 2> runs{};
  for (std::size_t i = 0; i < runs.size(); ++i) {
    runs_.clear();
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
      runs_.push_back(run_of(cache, layer, head, count.counted[i]));
    runs[i] = lists_.add(std::span(std::as_const(runs_)));
  }
  const auto here = pinned(floats);
  if (!here) return tl::unexpected(here.error());
  if (auto flushed = lists_.flush(); !flushed) return flushed;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    work.runs = runs[i];
    work.most_rows = count.counted[i].rows();
    if (work.most_rows > 0) kernels_.attention_columns(shape_, work, count.statistic, stream_);
    work.out += work.most_rows;
  }
  stream_.download(*here, *there, floats * sizeof(float));
  found_.push_back({*here, count.counted, count.statistic, count.found, count.stride});
  return {};
}

result<float*> column_counting::pinned(std::size_t floats) {
  if (pinned_.empty() || pinned_.back().size_bytes() / sizeof(float) - pinned_floats_ < floats) {
    const std::size_t more = std::max({floats, least_pinned_floats, 2 * pinned_floats_});
    auto made = owner_->allocate_pinned(more * sizeof(float), "columns of a prompt's attention");
    if (!made) return tl::unexpected(made.error());
    pinned_.push_back(std::move(*made));
    pinned_floats_ = 0;
  }
  return reinterpret_cast<float*>(pinned_.back().data()) +
         std::exchange(pinned_floats_, pinned_floats_ + floats);
}

void column_counting::bring_home() {
  for (const found_columns& found : found_) {
    const float* from = found.here;
    for (std::uint32_t head = 0; head < shape_.query_heads; ++head)
      for (const kernels::row_range& range : found.counted) {
        float* const to = found.out + head * found.stride + range.begin;
        for (std::uint32_t i = 0; i < range.rows(); ++i, ++from)
          to[i] = found.statistic == kernels::column_statistic::sum ? to[i] + *from : std::max(to[i], *from);
      }
  }
  found_.clear();
}

}  // namespace weft::engine
