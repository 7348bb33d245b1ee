// Attention of a pass that also says how much of it some of the rows get: for each counted row the largest
// share that any query row gives it, or the sum of the shares, the softmax of the share running over some of
// the rows only. For the largest, products of queries and keys are made once for both. (The repeat pass of
// KVzip, arXiv 2505.23416.)
#pragma once

#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/attention_prefill.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::kernels {

struct row_range {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  constexpr std::uint32_t rows() const { return end - begin; }
};

struct column_count {
  std::array<row_range, 2> counted;         // rows of every KV head
  row_range beside;                         // in the softmax, but not counted; the three do not overlap
  std::uint32_t first_query = 0;            // query rows before it do not count
  std::span<const float> log_weights = {};  // [query row], added to its log-sum-exp; empty: nothing is
  column_statistic statistic = column_statistic::largest_log;
  // [query_head][stride], of each counted row i element i: the largest natural logarithm, or what was there
  // if that is larger; or the sum, with what was there. Other elements stay as they are.
  float* found = nullptr;
  std::size_t stride = 0;
};

// As `attention_prefill`, of rows in one place (`before` is null), and raw ones for sums; `out` null: counts
// only. The result does not depend on the number of threads.
void attention_counted(const attention_shape& shape, const prefill_queries& queries,
                       std::span<const prefill_kv_head> heads, const column_count& count, float* out,
                       std::size_t out_stride, workspace& scratch, thread_pool& pool);

}  // namespace weft::kernels
