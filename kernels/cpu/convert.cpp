#include <weft/kernels/convert.hpp>
#include <weft/kernels/products.hpp>

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/convert.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

template <class From, class To>
void convert_elements(const std::byte* in, std::byte* out, std::size_t count) {
  const auto* source = reinterpret_cast<const typename From::storage*>(in);
  auto* target = reinterpret_cast<typename To::storage*>(out);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    To::store(From::load(source + i), target + i);
  for (; i < count; ++i)
    target[i] = To::narrow(From::widen(source[i]));
}

void widen_to_f32(dtype from, const std::byte* in, std::byte* out, std::size_t count) {
  if (from == dtype::bf16) return convert_elements<bf16_elements, f32_elements>(in, out, count);
  convert_elements<f16_elements, f32_elements>(in, out, count);
}

void narrow_from_f32(dtype to, const std::byte* in, std::byte* out, std::size_t count) {
  if (to == dtype::bf16) return convert_elements<f32_elements, bf16_elements>(in, out, count);
  convert_elements<f32_elements, f16_elements>(in, out, count);
}

void narrow_operands_from_f32(dtype to, const std::byte* in, std::byte* out, std::size_t count) {
#if WEFT_KERNELS_NATIVE_BF16
  if (to == dtype::bf16 && native_bf16_products())
    return convert_elements<f32_elements, native_bf16_elements>(in, out, count);
#endif
  narrow_from_f32(to, in, out, count);
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(widen_to_f32);
HWY_EXPORT(narrow_from_f32);
HWY_EXPORT(narrow_operands_from_f32);

void to_f32(dtype from, const std::byte* in, float* out, std::size_t count) {
  if (count == 0) return;
  if (from == dtype::f32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  HWY_DYNAMIC_DISPATCH(widen_to_f32)(from, in, reinterpret_cast<std::byte*>(out), count);
}

void from_f32(dtype to, const float* in, std::byte* out, std::size_t count) {
  if (count == 0) return;
  if (to == dtype::f32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  HWY_DYNAMIC_DISPATCH(narrow_from_f32)(to, reinterpret_cast<const std::byte*>(in), out, count);
}

void operands_from_f32(dtype to, const float* in, std::byte* out, std::size_t count) {
  if (count == 0 || to == dtype::f32) return from_f32(to, in, out, count);
  HWY_DYNAMIC_DISPATCH(narrow_operands_from_f32)(to, reinterpret_cast<const std::byte*>(in), out, count);
}

}  // namespace weft::kernels
#endif
