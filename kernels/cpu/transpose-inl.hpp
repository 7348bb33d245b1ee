// From rows to the order that register tiles take: 32 bits (a pair of bf16, or an f32) of each of 64 rows
// beside each other.
#if defined(WEFT_KERNELS_TRANSPOSE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_TRANSPOSE_INL
#undef WEFT_KERNELS_TRANSPOSE_INL
#else
#define WEFT_KERNELS_TRANSPOSE_INL
#endif

#include <hwy/highway.h>

#include "cpu/tile_layout.hpp"

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
using quad_tag = hn::FixedTag<std::uint32_t, 4>;
using quad = hn::Vec<quad_tag>;

// Of every block of four.
template <class Tag, class Vector>
HWY_INLINE void transpose_four(Tag tag, Vector& a, Vector& b, Vector& c, Vector& d) {
  const hn::Repartition<std::uint64_t, Tag> wide;
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(tag, a, b));
  const auto ab_high = hn::BitCast(wide, hn::InterleaveUpper(tag, a, b));
  const auto cd_low = hn::BitCast(wide, hn::InterleaveLower(tag, c, d));
  const auto cd_high = hn::BitCast(wide, hn::InterleaveUpper(tag, c, d));
  a = hn::BitCast(tag, hn::InterleaveLower(wide, ab_low, cd_low));
  b = hn::BitCast(tag, hn::InterleaveUpper(wide, ab_low, cd_low));
  c = hn::BitCast(tag, hn::InterleaveLower(wide, ab_high, cd_high));
  d = hn::BitCast(tag, hn::InterleaveUpper(wide, ab_high, cd_high));
}

HWY_INLINE void transpose_four(quad& a, quad& b, quad& c, quad& d) {
  transpose_four(quad_tag(), a, b, c, d);
}
#endif

#if HWY_TARGET == HWY_AVX3
constexpr std::size_t wide_rows = 16;

// Four units of each of 16 rows, so that what is stored is a cache line.
HWY_INLINE void transpose_wide_rows(const std::uint32_t* in, std::size_t row_units, std::uint32_t* out) {
  const hn::FixedTag<std::uint32_t, 16> tag;
  const hn::FixedTag<std::uint32_t, 8> half;
  const quad_tag block;
  const auto every_fourth = [&](std::size_t row) HWY_ATTR {
    const std::uint32_t* const first = in + row * row_units;
    const std::size_t step = 4 * row_units;
    return hn::Combine(
        tag, hn::Combine(half, hn::LoadU(block, first + 3 * step), hn::LoadU(block, first + 2 * step)),
        hn::Combine(half, hn::LoadU(block, first + step), hn::LoadU(block, first)));
  };
  auto a = every_fourth(0);
  auto b = every_fourth(1);
  auto c = every_fourth(2);
  auto d = every_fourth(3);
  transpose_four(tag, a, b, c, d);
  hn::StoreU(a, tag, out);
  hn::StoreU(b, tag, out + tile_columns);
  hn::StoreU(c, tag, out + 2 * tile_columns);
  hn::StoreU(d, tag, out + 3 * tile_columns);
}
#endif

// rows[64][units] (row_units apart) -> out[units][64]. `units` may be any number; rows >= `rows` are zero.
HWY_INLINE void transpose_rows(const std::uint32_t* in, std::size_t row_units, std::size_t rows,
                               std::size_t units, std::uint32_t* out) {
  std::size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const quad_tag tag;
  const std::size_t whole_rows = rows / 4 * 4;
  std::size_t row = 0;
#if HWY_TARGET == HWY_AVX3
  for (; row + wide_rows <= rows; row += wide_rows)
    for (std::size_t unit = 0; unit + 4 <= units; unit += 4)
      transpose_wide_rows(in + row * row_units + unit, row_units, out + unit * tile_columns + row);
#endif
  for (; row < whole_rows; row += 4) {
    const std::uint32_t* first = in + row * row_units;
    for (std::size_t unit = 0; unit + 4 <= units; unit += 4) {
      quad a = hn::LoadU(tag, first + unit);
      quad b = hn::LoadU(tag, first + row_units + unit);
      quad c = hn::LoadU(tag, first + 2 * row_units + unit);
      quad d = hn::LoadU(tag, first + 3 * row_units + unit);
      transpose_four(a, b, c, d);
      std::uint32_t* to = out + unit * tile_columns + row;
      hn::StoreU(a, tag, to);
      hn::StoreU(b, tag, to + tile_columns);
      hn::StoreU(c, tag, to + 2 * tile_columns);
      hn::StoreU(d, tag, to + 3 * tile_columns);
    }
  }
  done = units / 4 * 4;
  for (row = whole_rows; row < tile_columns; ++row) {
    for (std::size_t unit = 0; unit < done; ++unit) {
      out[unit * tile_columns + row] = row < rows ? in[row * row_units + unit] : 0;
    }
  }
#endif
  for (std::size_t unit = done; unit < units; ++unit) {
    for (std::size_t i = 0; i < tile_columns; ++i) {
      out[unit * tile_columns + i] = i < rows ? in[i * row_units + unit] : 0;
    }
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
