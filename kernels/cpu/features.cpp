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

dtype operand_dtype(products allowed, dtype stored) {
  const bool bf16 = allowed == products::automatic && stored == dtype::bf16 && native_bf16_products();
  return bf16 ? dtype::bf16 : dtype::f32;
}

}  // namespace weft::kernels
#endif
