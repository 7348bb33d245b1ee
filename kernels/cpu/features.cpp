#include <weft/kernels/products.hpp>

#include <hwy/targets.h>

namespace weft::kernels {

bool native_bf16_products() {
#if defined(__x86_64__)
  // The kernels use it from within Highway's AVX3 target only.
  return __builtin_cpu_supports("avx512bf16") != 0 && (hwy::SupportedTargets() & HWY_AVX3) != 0;
#else
  return false;
#endif
}

dtype operand_dtype(products allowed, dtype stored) {
  const bool bf16 = allowed == products::automatic && stored == dtype::bf16 && native_bf16_products();
  return bf16 ? dtype::bf16 : dtype::f32;
}

}  // namespace weft::kernels
