// A launch: the blocks of a grid, one after the other, each thread a fiber of its own.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <tuple>

namespace weft::kernels::cuda_on_host {

struct grid_shape {
  dim3 blocks;
  unsigned threads;
  std::size_t shared_bytes;
};

// `run(arguments)` is one thread's work; `kernel` is a text that has the kernel's name in it. What CUDA would
// not launch, and what failed, is told by cudaGetLastError.
void run_grid(const grid_shape& shape, const char* kernel, void (*run)(const void*), const void* arguments);

template <auto* Kernel, class... Arguments>
void run_kernel(const grid_shape& shape, const Arguments&... arguments) {
  using bound = std::tuple<const Arguments&...>;
  const bound all(arguments...);
  const auto run = [](const void* with) {
    std::apply([](const Arguments&... each) { Kernel(each...); }, *static_cast<const bound*>(with));
  };
  run_grid(shape, __PRETTY_FUNCTION__, run, &all);
}

}  // namespace weft::kernels::cuda_on_host
