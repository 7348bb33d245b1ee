#include "cuda_on_host/report.hpp"
#include "cuda_on_host/runtime_state.hpp"

#include <cstdlib>
#include <cstring>

namespace weft::kernels::cuda_on_host {

runtime_state& the_runtime() {
  static runtime_state state = [] {
    runtime_state begun;
    if (const char* const seed = std::getenv("WEFT_SEED"); seed != nullptr)
      begun.seed = std::strtoull(seed, nullptr, 10);
    return begun;
  }();
  return state;
}

std::string last_report() {
  return the_runtime().report;
}

void draw_orders_from(std::uint64_t seed) {
  the_runtime().seed = seed;
}

}  // namespace weft::kernels::cuda_on_host

using weft::kernels::cuda_on_host::the_runtime;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  return the_runtime().error;
}

cudaError_t cudaDeviceReset() {
  the_runtime().error = cudaSuccess;
  the_runtime().report.clear();
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = the_runtime().error;
  if (error != cudaErrorLaunchFailure) the_runtime().error = cudaSuccess;
  return error;
}

cudaError_t cudaMallocManaged(void** memory, std::size_t bytes) {
  constexpr std::size_t alignment = 256;
  if (memory == nullptr || bytes == 0) return cudaErrorInvalidValue;
  if (posix_memalign(memory, alignment, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xFF, bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
