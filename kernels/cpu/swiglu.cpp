#include <weft/kernels/swiglu.hpp>

#include "cpu/swiglu_row.hpp"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/swiglu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

HWY_INLINE f32_vector gated(f32_vector gate, f32_vector up) {
  const f32_tag tag;
  constexpr float log2_e = 1.44269504F;
  // Beyond 2^127 the quotient is as good as zero.
  const f32_vector exponent = hn::Min(hn::Mul(gate, hn::Set(tag, -log2_e)), hn::Set(tag, 127.0F));
  const f32_vector decay = exp2_of<false>(exponent);
  return hn::Mul(hn::Div(gate, hn::Add(hn::Set(tag, 1.0F), decay)), up);
}

void swiglu_span(const float* gate, const float* up, float* out, std::size_t count) {
  const f32_tag tag;
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(gated(hn::LoadU(tag, gate + i), hn::LoadU(tag, up + i)), tag, out + i);
  }
  if (i == count) return;
  float last_gate[lanes] = {};
  float last_up[lanes] = {};
  std::copy(gate + i, gate + count, last_gate);
  std::copy(up + i, up + count, last_up);
  hn::StoreU(gated(hn::LoadU(tag, last_gate), hn::LoadU(tag, last_up)), tag, last_gate);
  std::copy(last_gate, last_gate + (count - i), out + i);
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(swiglu_span);

void swiglu_row(const float* gate, const float* up, float* out, std::size_t count) {
  HWY_DYNAMIC_DISPATCH(swiglu_span)(gate, up, out, count);
}

void swiglu(const float* gate, const float* up, std::size_t in_stride, float* out, std::size_t out_stride,
            std::uint32_t rows, std::uint32_t columns, thread_pool& pool) {
  auto* const span = &HWY_DYNAMIC_DISPATCH(swiglu_span);
  // Whole vectors per piece, so that an element's lane does not depend on the cut.
  constexpr std::size_t piece_columns = 4096;
  const std::size_t pieces = (columns + piece_columns - 1) / piece_columns;
  pool.parallel_for(rows * pieces, [&](std::size_t index, unsigned) {
    const std::size_t row = index / pieces;
    const std::size_t first = index % pieces * piece_columns;
    const std::size_t count = std::min<std::size_t>(piece_columns, columns - first);
    const std::size_t in = row * in_stride + first;
    span(gate + in, up + in, out + row * out_stride + first, count);
  });
}

}  // namespace weft::kernels
#endif
