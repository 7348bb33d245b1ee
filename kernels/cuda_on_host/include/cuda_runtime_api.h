// What weft's kernels and their tests use of CUDA's runtime, on the host. There is one device, the processor;
// work is done when it is asked for, so a stream means nothing.
#pragma once

#include <cstddef>

#define WEFT_CUDA_ON_HOST 1

// The values are CUDA's.
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,  // stays until cudaDeviceReset
};

using cudaStream_t = struct CUstream_st*;

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaDeviceSynchronize();
// Forgets what failed.
cudaError_t cudaDeviceReset();
// Forgets it, too, where it is none that stays.
cudaError_t cudaGetLastError();

// Aligned as CUDA's; what nobody wrote is not a number.
cudaError_t cudaMallocManaged(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream);
