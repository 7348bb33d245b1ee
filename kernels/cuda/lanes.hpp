// What bodies of kernels share beyond a warp's own operations.
#pragma once

#include "cuda/both_sides.hpp"

#include <cstdint>

namespace weft::kernels::cuda {

inline constexpr std::uint32_t warp_lanes = 32;

// Kernels take powers of two: a logarithm is multiplied by one, divided out by the other.
inline constexpr float log2_e = 1.44269504088896340736F;
inline constexpr float ln_2 = 0.693147180559945309417F;

WEFT_BOTH_SIDES inline float power_of_two(float x) {
#if defined(__CUDA_ARCH__)
  return exp2f(x);
#else
  return __builtin_exp2f(x);
#endif
}

WEFT_BOTH_SIDES inline float logarithm_2(float x) {
#if defined(__CUDA_ARCH__)
  return log2f(x);
#else
  return __builtin_log2f(x);
#endif
}

// Lanes of a ballot that come before this one.
WEFT_BOTH_SIDES inline std::uint32_t lanes_before(std::uint32_t ballot, std::uint32_t lane) {
  const std::uint32_t before = ballot & ((1U << lane) - 1U);
#if defined(__CUDA_ARCH__)
  return static_cast<std::uint32_t>(__popc(before));
#else
  return static_cast<std::uint32_t>(__builtin_popcount(before));
#endif
}

WEFT_BOTH_SIDES inline std::uint32_t lanes_in(std::uint32_t ballot) {
#if defined(__CUDA_ARCH__)
  return static_cast<std::uint32_t>(__popc(ballot));
#else
  return static_cast<std::uint32_t>(__builtin_popcount(ballot));
#endif
}

}  // namespace weft::kernels::cuda
