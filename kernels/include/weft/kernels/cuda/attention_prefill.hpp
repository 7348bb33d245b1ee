// attention_prefill.hpp and attention_columns.hpp of this folder's parent, on a GPU's tensor cores: products
// of bf16 or fp16, sums in f32. Queries are rounded to the rows' element type.
//
// Which rows a query sees: attention_prefill.hpp. Logarithms are natural.
#pragma once

#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/prefill_work.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// All of these run behind `stream`, allocate nothing and do not wait, so a graph can capture them.
// cudaErrorInvalidValue: kv_dtype f32, or a head_dim that is no multiple of 8 up to 256.

// out: f32 [rows][query_heads][head_dim], rows `out_stride` floats apart.
cudaError_t attention_prefill(const attention_shape& shape, const prefill_work& work, float* out,
                              std::size_t out_stride, cudaStream_t stream);

// Pass A. out[row * query_heads + head] = ln(sum of exp(scale * q k)); with `merge` over what is there, too.
// Lines that see nothing: -infinity.
cudaError_t attention_log_sums(const attention_shape& shape, const prefill_work& work, bool merge, float* out,
                               cudaStream_t stream);

// Pass B.
cudaError_t attention_columns(const attention_shape& shape, const column_work& work,
                              column_statistic statistic, cudaStream_t stream);

}  // namespace weft::kernels::cuda
