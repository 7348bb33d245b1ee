// What attention_prefill.hpp attends to and counts, as it lies in device memory. Needs no CUDA itself.
#pragma once

#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/attention_plan.hpp>
#include <weft/kernels/row_codec.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// Consecutive rows of one KV head. 16-byte aligned.
struct prefill_run {
  const std::byte* k = nullptr;  // rotated, [rows][head_dim] of the shape's kv_dtype, or codes of `coding`
  const std::byte* v = nullptr;  // not read where sums or columns are wanted
  const std::int32_t* positions = nullptr;  // [rows], any order
  const std::int32_t* segments = nullptr;   // [rows]
  std::uint32_t rows = 0;
  row_codec coding = row_codec::raw;
  const std::uint16_t* k_scales = nullptr;  // [rows][scales_per_row], where it is not raw
  const std::uint16_t* v_scales = nullptr;
};

// The rows of one KV head: its runs one after the other.
struct prefill_head {
  const prefill_run* runs = nullptr;
  std::uint32_t run_count = 0;
};

// A plan's lists and what they were made for, in device memory (but for `queries` itself, whose pointers are
// the device's).
struct prefill_work {
  prefill_queries queries;
  const attention_task* tasks = nullptr;
  std::uint32_t task_count = 0;
  const attention_merge* merges = nullptr;
  std::uint32_t merge_count = 0;
  const prefill_head* heads = nullptr;
  float* scratch = nullptr;  // attention_plan::scratch_bytes
};

// Columns over one run of each KV head, runs[kv_heads] in device memory, none with more than `most_rows`
// rows. out: [query_head][out_stride], with what earlier queries gave (largest_log: -infinity; sum: 0).
struct column_work {
  prefill_queries queries;
  const prefill_run* runs = nullptr;
  std::uint32_t most_rows = 0;
  const float* log_sums = nullptr;  // [row][query_head], natural
  float* out = nullptr;
  std::size_t out_stride = 0;
  const float* log_weights = nullptr;  // [row], added to the row's log_sums; null: nothing is
  bool replaces = false;               // what is in `out`, which then need not be anything
};

}  // namespace weft::kernels::cuda
