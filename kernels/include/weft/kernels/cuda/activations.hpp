// The operations of activation_work.hpp. All of them run behind `stream`, allocate nothing and do not wait,
// so a graph can capture them.
#pragma once

#include <weft/kernels/cuda/activation_work.hpp>

#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels::cuda {

cudaError_t norm_rows(const norm_work& work, cudaStream_t stream);
cudaError_t add_bias(const bias_work& work, cudaStream_t stream);
cudaError_t round_rows(const round_work& work, cudaStream_t stream);
cudaError_t swiglu_rows(const swiglu_work& work, cudaStream_t stream);
cudaError_t gelu_rows(const gelu_work& work, cudaStream_t stream);
// cudaErrorInvalidValue for an odd head_dim.
cudaError_t rotate_rows(const rotation_work& work, cudaStream_t stream);
cudaError_t move_rows(const move_work& work, cudaStream_t stream);
// `items`: `count` of them in device memory, none with more than `most_rows` rows.
cudaError_t label_rows(const label_item* items, std::uint32_t count, std::uint32_t most_rows,
                       cudaStream_t stream);

}  // namespace weft::kernels::cuda
