// What nvcc knows of itself, for a compiler of the host: words, who a thread is, and what threads do
// together. Only what weft's kernels use.
#pragma once

#include "cuda_on_host/together.hpp"
#include <cuda_runtime_api.h>

#include <bit>
#include <cstdint>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(threads)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Of the fiber that runs; only a launch writes them.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

inline void __syncthreads(
    weft::kernels::cuda_on_host::source_place at = weft::kernels::cuda_on_host::source_place::here()) {
  weft::kernels::cuda_on_host::wait_for_block("__syncthreads", 0, at);
}
// Not 0 where it is not 0 for one of the threads.
inline int __syncthreads_or(int value, weft::kernels::cuda_on_host::source_place at =
                                           weft::kernels::cuda_on_host::source_place::here()) {
  return weft::kernels::cuda_on_host::wait_for_block("__syncthreads_or", value, at);
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFU, weft::kernels::cuda_on_host::source_place at =
                                                        weft::kernels::cuda_on_host::source_place::here()) {
  weft::kernels::cuda_on_host::wait_for_lanes(mask, at);
}
inline unsigned __ballot_sync(
    unsigned mask, int value,
    weft::kernels::cuda_on_host::source_place at = weft::kernels::cuda_on_host::source_place::here()) {
  return weft::kernels::cuda_on_host::ballot(mask, value != 0, at);
}
inline unsigned __match_any_sync(
    unsigned mask, unsigned value,
    weft::kernels::cuda_on_host::source_place at = weft::kernels::cuda_on_host::source_place::here()) {
  return weft::kernels::cuda_on_host::lanes_that_equal(mask, value, at);
}

namespace weft::kernels::cuda_on_host {
template <class T>
T shuffled(const char* what, unsigned mask, T value, unsigned from_lane,
           weft::kernels::cuda_on_host::source_place at) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<T>(
      static_cast<bits>(value_of_lane(what, mask, std::bit_cast<bits>(value), from_lane, at)));
}
}  // namespace weft::kernels::cuda_on_host

template <class T>
T __shfl_sync(
    unsigned mask, T value, int lane,
    weft::kernels::cuda_on_host::source_place at = weft::kernels::cuda_on_host::source_place::here()) {
  return weft::kernels::cuda_on_host::shuffled("__shfl_sync", mask, value, static_cast<unsigned>(lane) % 32,
                                               at);
}
template <class T>
T __shfl_up_sync(
    unsigned mask, T value, unsigned step,
    weft::kernels::cuda_on_host::source_place at = weft::kernels::cuda_on_host::source_place::here()) {
  const unsigned lane = threadIdx.x % 32;
  return weft::kernels::cuda_on_host::shuffled("__shfl_up_sync", mask, value,
                                               lane < step ? lane : lane - step, at);
}
template <class T>
T __shfl_xor_sync(
    unsigned mask, T value, int step,
    weft::kernels::cuda_on_host::source_place at = weft::kernels::cuda_on_host::source_place::here()) {
  const unsigned lane = threadIdx.x % 32;
  return weft::kernels::cuda_on_host::shuffled("__shfl_xor_sync", mask, value,
                                               (lane ^ static_cast<unsigned>(step)) % 32, at);
}

template <class T>
T atomicAdd(T* to, T value) {
  return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
