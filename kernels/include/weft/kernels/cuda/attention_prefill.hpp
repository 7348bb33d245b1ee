// attention_prefill.hpp and attention_columns.hpp of this folder's parent, on a GPU's tensor cores: products
// of bf16 or fp16, sums in f32. Queries are rounded to the rows' element type.
//
// Which rows a query sees: attention_prefill.hpp. Logarithms are natural.
#pragma once

#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/attention_plan.hpp>

#include <cuda_runtime_api.h>

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

// All of these run behind `stream`, allocate nothing and do not wait, so a graph can capture them.
// cudaErrorInvalidValue: kv_dtype f32, or a head_dim that is no multiple of 8 up to 256.

// out: f32 [rows][query_heads][head_dim], rows `out_stride` floats apart.
cudaError_t attention_prefill(const attention_shape& shape, const prefill_work& work, float* out,
                              std::size_t out_stride, cudaStream_t stream);

// Pass A. out[row * query_heads + head] = ln(sum of exp(scale * q k)); with `merge` over what is there, too.
// Lines that see nothing: -infinity.
cudaError_t attention_log_sums(const attention_shape& shape, const prefill_work& work, bool merge, float* out,
                               cudaStream_t stream);

// Pass B over one run of each KV head, runs[kv_heads] in device memory, none with more than `most_rows` rows.
// out: [query_head][out_stride], with what earlier queries gave (largest_log: -infinity; sum: 0).
struct column_work {
  prefill_queries queries;
  const prefill_run* runs = nullptr;
  std::uint32_t most_rows = 0;
  const float* log_sums = nullptr;  // as pass A gives them
  float* out = nullptr;
  std::size_t out_stride = 0;
};

cudaError_t attention_columns(const attention_shape& shape, const column_work& work,
                              column_statistic statistic, cudaStream_t stream);

}  // namespace weft::kernels::cuda
