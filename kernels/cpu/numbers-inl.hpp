// Vectors of f32 from and to stored element types, and the exponential. Included once per target.
#if defined(WEFT_KERNELS_NUMBERS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_NUMBERS_INL
#undef WEFT_KERNELS_NUMBERS_INL
#else
#define WEFT_KERNELS_NUMBERS_INL
#endif

#include <hwy/highway.h>

#include "cpu/narrow_floats.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// 16 lanes at most: what a register tile is made of.
using f32_tag = hn::CappedTag<float, 16>;
using u32_tag = hn::RebindToUnsigned<f32_tag>;
using i32_tag = hn::RebindToSigned<f32_tag>;
using f32_vector = hn::Vec<f32_tag>;
using u32_vector = hn::Vec<u32_tag>;
constexpr std::size_t lanes = hn::MaxLanes(f32_tag());

#undef WEFT_KERNELS_NATIVE_BF16
#if HWY_TARGET == HWY_AVX3
#define WEFT_KERNELS_NATIVE_BF16 1
#else
#define WEFT_KERNELS_NATIVE_BF16 0
#endif

// How elements of one stored type become f32 lanes and back.
struct f32_elements {
  using storage = float;
  static HWY_INLINE f32_vector load(const storage* p) { return hn::LoadU(f32_tag(), p); }
  static HWY_INLINE void store(f32_vector v, storage* p) { hn::StoreU(v, f32_tag(), p); }
  static float widen(storage s) { return s; }
  static storage narrow(float f) { return f; }
};

struct bf16_elements {
  using storage = std::uint16_t;
  static HWY_INLINE f32_vector load(const storage* p) {
    const hn::Rebind<std::uint16_t, u32_tag> narrow_tag;
    const u32_vector wide = hn::PromoteTo(u32_tag(), hn::LoadU(narrow_tag, p));
    return hn::BitCast(f32_tag(), hn::ShiftLeft<16>(wide));
  }
  static HWY_INLINE void store(f32_vector v, storage* p) {
    const u32_tag tag;
    const hn::Rebind<std::uint16_t, u32_tag> narrow_tag;
    const u32_vector bits = hn::BitCast(tag, v);
    const u32_vector odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(tag, 1));
    const u32_vector rounded = hn::Add(bits, hn::Add(odd, hn::Set(tag, 0x7FFF)));
    // Rounding must not carry a NaN's mantissa into an infinity.
    const u32_vector quiet = hn::Or(bits, hn::Set(tag, 0x400000));
    const auto nan = hn::RebindMask(tag, hn::IsNaN(v));
    const u32_vector kept = hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded));
    hn::StoreU(hn::TruncateTo(narrow_tag, kept), narrow_tag, p);
  }
  static float widen(storage s) { return f32_from_bf16(s); }
  static storage narrow(float f) { return bf16_from_f32(f); }
};

#if WEFT_KERNELS_NATIVE_BF16
// Rounded by the CPU where `native_bf16_products()`: the same, but subnormal values become zero.
struct native_bf16_elements : bf16_elements {
  static HWY_INLINE void store(f32_vector v, storage* p) {
    __m256i narrow;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(v.raw));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow);
  }
};
#endif

struct f16_elements {
  using storage = std::uint16_t;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  static HWY_INLINE f32_vector load(const storage* p) {
    const hn::Rebind<std::uint16_t, f32_tag> bits_tag;
    const hn::Rebind<hwy::float16_t, f32_tag> narrow_tag;
    return hn::PromoteTo(f32_tag(), hn::BitCast(narrow_tag, hn::LoadU(bits_tag, p)));
  }
  static HWY_INLINE void store(f32_vector v, storage* p) {
    const hn::Rebind<std::uint16_t, f32_tag> bits_tag;
    const hn::Rebind<hwy::float16_t, f32_tag> narrow_tag;
    hn::StoreU(hn::BitCast(bits_tag, hn::DemoteTo(narrow_tag, v)), bits_tag, p);
  }
#else
  static HWY_INLINE f32_vector load(const storage* p) {
    alignas(64) float wide[lanes];
    for (std::size_t i = 0; i < lanes; ++i)
      wide[i] = f32_from_f16(p[i]);
    return hn::Load(f32_tag(), wide);
  }
  static HWY_INLINE void store(f32_vector v, storage* p) {
    alignas(64) float wide[lanes];
    hn::Store(v, f32_tag(), wide);
    for (std::size_t i = 0; i < lanes; ++i)
      p[i] = f16_from_f32(wide[i]);
  }
#endif
  static float widen(storage s) {
    return f32_from_f16(s);
  }
  static storage narrow(float f) {
    return f16_from_f32(f);
  }
};

// 2^x, relative error below 2e-7 (`quick`: 4e-6), exactly 1 for 0. x is finite and below 128; far below zero
// the result is 0.
template <bool quick>
HWY_INLINE f32_vector exp2_of(f32_vector x) {
  const f32_tag tag;
#if HWY_TARGET == HWY_AVX3
  const f32_vector bounded = x;  // the scaling below takes any exponent
#else
  const f32_vector bounded = hn::Max(x, hn::Set(tag, -160.0F));
#endif
  const f32_vector whole = hn::Round(bounded);
  const f32_vector part = hn::Sub(bounded, whole);
  // Minimax in the relative error with the constant fixed to 1.
  f32_vector p;
  if constexpr (quick) {
    p = hn::MulAdd(hn::Set(tag, 9.58285601e-3F), part, hn::Set(tag, 5.5906443e-2F));
    p = hn::MulAdd(p, part, hn::Set(tag, 2.40240987e-1F));
    p = hn::MulAdd(p, part, hn::Set(tag, 6.93124191e-1F));
  } else {
    p = hn::MulAdd(hn::Set(tag, 1.32647291e-3F), part, hn::Set(tag, 9.67151462e-3F));
    p = hn::MulAdd(p, part, hn::Set(tag, 5.55073376e-2F));
    p = hn::MulAdd(p, part, hn::Set(tag, 2.40222421e-1F));
    p = hn::MulAdd(p, part, hn::Set(tag, 6.93146978e-1F));
  }
  p = hn::MulAdd(p, part, hn::Set(tag, 1.0F));
#if HWY_TARGET == HWY_AVX3
  return f32_vector{_mm512_scalef_ps(p.raw, whole.raw)};
#else
  // In two steps, so that each power of two is a normal number.
  const i32_tag integers;
  const auto exponent = hn::ConvertTo(integers, whole);
  const auto half = hn::ShiftRight<1>(exponent);
  const auto power = [&](auto e) HWY_ATTR {
    return hn::BitCast(tag, hn::ShiftLeft<23>(hn::Add(e, hn::Set(integers, 127))));
  };
  return hn::Mul(hn::Mul(p, power(half)), power(hn::Sub(exponent, half)));
#endif
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
