// Products of bytes with 32-bit sums (AVX512_VNNI), where the CPU has them. Included once per target.
#if defined(WEFT_KERNELS_DOT_BYTES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_DOT_BYTES_INL
#undef WEFT_KERNELS_DOT_BYTES_INL
#else
#define WEFT_KERNELS_DOT_BYTES_INL
#endif

#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

#if WEFT_KERNELS_NATIVE_BF16

inline bool multiplies_bytes() {
  return __builtin_cpu_supports("avx512vnni") != 0;
}

// sum[i] += products of four unsigned with four signed bytes.
HWY_INLINE __m512i dot_bytes(__m512i sum, __m512i unsigned_bytes, __m512i signed_bytes) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
}
HWY_INLINE __m256i dot_bytes(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
}
// The same four signed bytes for every sum.
HWY_INLINE __m512i dot_bytes(__m512i sum, __m512i unsigned_bytes, const std::int32_t* four_signed_bytes) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "m"(*four_signed_bytes));
  return sum;
}

#endif

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
