// The element types of KV rows, read and written alike on the device and on the host.
#pragma once

#include <weft/kernels/dtype.hpp>

#include "cuda/both_sides.hpp"

#include <cstdint>
#include <cstring>
#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace weft::kernels::cuda {

template <class To, class From>
WEFT_BOTH_SIDES To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

struct f32_elements {
  using storage = float;
  static constexpr dtype type = dtype::f32;
  WEFT_BOTH_SIDES static float widen(storage x) { return x; }
  WEFT_BOTH_SIDES static storage narrow(float x) { return x; }
};

struct bf16_elements {
  using storage = std::uint16_t;
  static constexpr dtype type = dtype::bf16;
  WEFT_BOTH_SIDES static float widen(storage x) { return bits_as<float>(std::uint32_t{x} << 16); }
  // To the nearest, ties to even.
  WEFT_BOTH_SIDES static storage narrow(float x) {
    const auto bits = bits_as<std::uint32_t>(x);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<storage>((bits >> 16) | 0x40U);
    return static_cast<storage>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
  }
};

struct f16_elements {
  using storage = std::uint16_t;
  static constexpr dtype type = dtype::f16;

  WEFT_BOTH_SIDES static float widen(storage x) {
#if defined(__CUDA_ARCH__)
    return __half2float(bits_as<__half>(x));
#else
    const std::uint32_t sign = std::uint32_t{x & 0x8000U} << 16;
    const std::uint32_t magnitude = x & 0x7FFFU;
    // 2^112 moves the exponent from its bias of 15 to 127 and makes subnormal numbers normal.
    constexpr float rebias = 5192296858534827628530496329220096.0F;
    if (magnitude >= 0x7C00U) return bits_as<float>(sign | 0x7F800000U | ((magnitude & 0x3FFU) << 13));
    return bits_as<float>(sign | bits_as<std::uint32_t>(bits_as<float>(magnitude << 13) * rebias));
#endif
  }

  WEFT_BOTH_SIDES static storage narrow(float x) {
#if defined(__CUDA_ARCH__)
    return bits_as<storage>(__float2half_rn(x));
#else
    const auto bits = bits_as<std::uint32_t>(x);
    const auto sign = static_cast<storage>((bits >> 16) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<storage>(sign | 0x7E00U);
    if (magnitude >= 0x477FF000U) return static_cast<storage>(sign | 0x7C00U);  // rounds to 65536 or more
    if (magnitude < 0x38800000U) {
      // Adding one half puts the last place of a subnormal number where the sum's own rounding is.
      const float sum = bits_as<float>(magnitude) + 0.5F;
      return static_cast<storage>(sign | (bits_as<std::uint32_t>(sum) - 0x3F000000U));
    }
    const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
    return static_cast<storage>(sign | ((rounded - 0x38000000U) >> 13));
#endif
  }
};

// `Width` consecutive elements, moved by one instruction.
template <class Elements, int Width>
struct alignas(sizeof(typename Elements::storage) * Width) element_pack {
  typename Elements::storage at[Width];
};

}  // namespace weft::kernels::cuda
