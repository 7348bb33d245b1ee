#include <weft/kernels/products.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/features.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

bool multiplies_bf16() {
#if WEFT_KERNELS_NATIVE_BF16
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(multiplies_bf16);

bool native_bf16_products() {
  return HWY_DYNAMIC_DISPATCH(multiplies_bf16)();
}

namespace {

// A vector of bf16 products takes Intel's cores (Emerald Rapids) as long as four of f32, which are twice as
// many products. Zen 4 makes twice as many in bf16.
bool multiplies_f32_faster() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

}  // namespace

dtype operand_dtype(products allowed, dtype stored) {
  const bool bf16 = allowed != products::f32 && stored == dtype::bf16 && native_bf16_products();
  return bf16 ? dtype::bf16 : dtype::f32;
}

dtype dense_operand_dtype(products allowed, dtype stored) {
  if (allowed == products::automatic && multiplies_f32_faster()) return dtype::f32;
  return operand_dtype(allowed, stored);
}

}  // namespace weft::kernels
#endif
