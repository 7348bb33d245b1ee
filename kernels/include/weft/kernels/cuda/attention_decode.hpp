// attention_decode.hpp of this folder's parent, on a GPU: split over rows, each piece one warp's.
#pragma once

#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/decode_work.hpp>

#include <cuda_runtime_api.h>

namespace weft::kernels::cuda {

// head_dim: a multiple of 8 up to 256; query_heads / kv_heads: up to 8; else cudaErrorInvalidValue. The
// result does not depend on how rows are cut into runs. Runs behind `stream`; allocates nothing and does not
// wait, so a graph can capture it.
cudaError_t attention_decode(const attention_shape& shape, const decode_work& work, cudaStream_t stream);

}  // namespace weft::kernels::cuda
