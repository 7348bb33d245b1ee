// How a kernel is launched: by nvcc's syntax on a device. A compiler for the host alone gets ours, which runs
// blocks one after the other (cuda_on_host/).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#if !defined(__CUDACC__)
#include "cuda_on_host/grid.hpp"
#endif

namespace weft::kernels::cuda {

struct launch_shape {
  dim3 grid;
  unsigned threads;  // of a block
  std::size_t shared_bytes = 0;
};

template <auto* Kernel, class... Arguments>
cudaError_t launch_kernel(const launch_shape& shape, cudaStream_t stream, const Arguments&... arguments) {
#if defined(__CUDACC__)
  Kernel<<<shape.grid, shape.threads, shape.shared_bytes, stream>>>(arguments...);
#else
  static_cast<void>(stream);  // there is one, and nothing runs beside it
  cuda_on_host::run_kernel<Kernel>({shape.grid, shape.threads, shape.shared_bytes}, arguments...);
#endif
  return cudaGetLastError();
}

}  // namespace weft::kernels::cuda
