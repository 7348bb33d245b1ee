#include <weft/kernels/attention_counted.hpp>

#include "cpu/attention_layout.hpp"
#include "cpu/prefill_block.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_counted.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/prefill_block-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

void count_block(const prefill_block& block) {
  with_block(block, [](auto&& attention) { attention.count_and_attend(); });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(count_block);

namespace {

void check(const attention_shape& shape, std::span<const prefill_kv_head> heads, const column_count& count) {
  const bool grouped = shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0;
  if (!grouped || heads.size() != shape.kv_heads)
    throw std::invalid_argument("attention_counted: one row list per KV head, whole groups of query heads");
  if (shape.head_dim == 0 || shape.head_dim % 2 != 0 || shape.head_dim > max_head_dim)
    throw std::invalid_argument("attention_counted: head_dim must be even and at most 512");
  for (const prefill_kv_head& head : heads) {
    if (head.before != nullptr)
      throw std::invalid_argument("attention_counted: rows of a head lie in one place");
    if (head.coding != row_codec::raw && count.statistic == column_statistic::sum)
      throw std::invalid_argument("attention_counted: shares of rows in a codec are not summed");
    for (const row_range& range : {count.counted[0], count.counted[1], count.beside})
      if (range.begin > range.end || range.end > head.rows)
        throw std::invalid_argument("attention_counted: a range ends behind the rows");
  }
}

// The scratch memory of a call, by worker.
class call_memory {
 public:
  call_memory(const attention_shape& shape, const column_count& count, std::size_t lines, workspace& scratch,
              unsigned workers)
      : count_(count),
        // Lines do not share cache sets.
        stride_(padded_columns(count.counted[0]) + padded_columns(count.counted[1]) + 16),
        counted_lines_(std::min(lines, counted_lines(stride_))),
        block_bytes_(prefill_memory::size_bytes(shape, lines)),
        scores_bytes_(round_to_lines(counted_lines_ * stride_ * sizeof(float))),
        sums_bytes_(round_to_lines(counted_lines_ * sizeof(float))),
        largest_bytes_(round_to_lines(shape.query_heads * stride_ * sizeof(float))),
        workers_(workers),
        begin_(scratch.reserve(workers * worker_bytes()).data()) {
    for (unsigned worker = 0; worker < workers; ++worker)
      std::fill_n(largest(worker, 0), shape.query_heads * stride_, hidden_score);
  }

  std::byte* block(unsigned worker) const { return begin_ + worker * worker_bytes(); }

  column_block counting(unsigned worker, std::size_t first_query_head) const {
    std::byte* const scores = block(worker) + block_bytes_;
    return {.count = &count_,
            .lines = counted_lines_,
            .score_stride = stride_,
            .scores = reinterpret_cast<float*>(scores),
            .log_sums = reinterpret_cast<float*>(scores + scores_bytes_),
            .largest = largest(worker, first_query_head)};
  }

  // Joins what the workers found to what the caller has.
  void store(std::size_t query_head) const {
    constexpr float ln_2 = 0.693147181F;
    std::size_t column = 0;
    for (const row_range& range : count_.counted) {
      float* const out = count_.found + query_head * count_.stride + range.begin;
      for (unsigned worker = 0; worker < workers_; ++worker) {
        const float* const found = largest(worker, query_head) + column;
        for (std::size_t i = 0; i < range.rows(); ++i)
          if (found[i] > nothing_seen) out[i] = std::max(out[i], found[i] * ln_2);
      }
      column += padded_columns(range);
    }
  }

 private:
  std::size_t worker_bytes() const { return block_bytes_ + scores_bytes_ + sums_bytes_ + largest_bytes_; }
  float* largest(unsigned worker, std::size_t query_head) const {
    return reinterpret_cast<float*>(block(worker) + block_bytes_ + scores_bytes_ + sums_bytes_) +
           query_head * stride_;
  }

  const column_count& count_;
  std::size_t stride_;
  std::size_t counted_lines_;
  std::size_t block_bytes_, scores_bytes_, sums_bytes_, largest_bytes_;
  unsigned workers_;
  std::byte* begin_;
};

std::vector<prefill_kv_head> rows_of(std::span<const prefill_kv_head> heads, const attention_shape& shape,
                                     const row_range& range) {
  std::vector<prefill_kv_head> rows(heads.begin(), heads.end());
  const std::size_t first_byte = std::size_t{range.begin} * shape.head_dim * size_bytes(shape.kv_dtype);
  for (prefill_kv_head& head : rows) {
    head.k += first_byte;
    head.v += first_byte;
    head.positions += range.begin;
    head.segments += range.begin;
    head.rows = range.rows();
  }
  return rows;
}

// By two passes over the rows.
void add_shares(const attention_shape& shape, const prefill_queries& queries,
                std::span<const prefill_kv_head> heads, const column_count& count, workspace& scratch,
                thread_pool& pool) {
  if (count.first_query >= queries.rows) return;
  const prefill_queries counted{.q = queries.q + count.first_query * queries.row_stride,
                                .row_stride = queries.row_stride,
                                .rows = queries.rows - count.first_query,
                                .positions = queries.positions + count.first_query,
                                .segments = queries.segments + count.first_query};
  std::vector<float> log_sums(std::size_t{counted.rows} * shape.query_heads);
  bool merge = false;
  for (const row_range& range : {count.counted[0], count.counted[1], count.beside}) {
    if (range.rows() == 0) continue;
    attention_log_sums(shape, counted, rows_of(heads, shape, range), merge, log_sums, scratch, pool);
    merge = true;
  }
  if (!count.log_weights.empty())
    for (std::size_t line = 0; line < log_sums.size(); ++line)
      log_sums[line] += count.log_weights[count.first_query + line / shape.query_heads];
  for (const row_range& range : count.counted)
    if (range.rows() > 0)
      attention_columns(shape, counted, rows_of(heads, shape, range), log_sums, column_statistic::sum,
                        count.found + range.begin, count.stride, scratch, pool);
}

}  // namespace

void attention_counted(const attention_shape& shape, const prefill_queries& queries,
                       std::span<const prefill_kv_head> heads, const column_count& count, float* out,
                       std::size_t out_stride, workspace& scratch, thread_pool& pool) {
  check(shape, heads, count);
  if (queries.rows == 0) return;
  if (count.statistic == column_statistic::sum) {
    if (out != nullptr) attention_prefill(shape, queries, heads, out, out_stride, scratch, pool);
    return add_shares(shape, queries, heads, count, scratch, pool);
  }
  const std::size_t group = shape.query_heads / shape.kv_heads;
  const std::size_t each = rows_per_block(shape, queries.rows, pool.threads());
  const std::size_t blocks = (queries.rows + each - 1) / each;
  const call_memory memory(shape, count, each * group, scratch, pool.threads());
  auto* const run = &HWY_DYNAMIC_DISPATCH(count_block);
  pool.parallel_for(blocks * heads.size(), [&](std::size_t index, unsigned worker) {
    const std::size_t kv_head = index % heads.size();
    const std::size_t first_row = index / heads.size() * each;
    const column_block counting = memory.counting(worker, kv_head * group);
    prefill_block block{};
    block.shape = &shape;
    block.queries = &queries;
    block.kv_head = kv_head;
    block.keys = &heads[kv_head];
    block.first_row = first_row;
    block.rows = std::min<std::size_t>(each, queries.rows - first_row);
    block.group = group;
    block.counting = &counting;
    block.out = out;
    block.out_stride = out_stride;
    block.scratch = memory.block(worker);
    run(block);
  });
  pool.parallel_for(shape.query_heads, [&](std::size_t head, unsigned) { memory.store(head); });
}

}  // namespace weft::kernels
#endif
