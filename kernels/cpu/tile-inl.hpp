// The register tile that every product is made of: a few rows times `tile_columns` columns.
//
// acc[row][column] += sum over steps of a[row][step] * b[step][column]. b is stored step by step, so that it
// streams; the sum of one element runs over the steps in order, in one accumulator, whatever the number of
// rows beside it.
#if defined(WEFT_KERNELS_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_TILE_INL
#undef WEFT_KERNELS_TILE_INL
#else
#define WEFT_KERNELS_TILE_INL
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"
#include "cpu/tile_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Accumulators of a tile fill most of the register file: 6 x 4 of 32, or 6 x 2 of 16.
constexpr int tile_vectors = lanes == 8 ? 2 : 4;
constexpr std::size_t group_columns = tile_vectors * lanes;
static_assert(tile_columns % group_columns == 0);

using accumulators = f32_vector[tile_vectors];

// How one step of b looks in memory and what it multiplies with. `values` is the number of products a step
// sums per element.
struct f32_steps {
  using operand = float;
  static constexpr std::size_t values = 1;
  static constexpr std::size_t column_bytes = 4;
  template <int rows>
  static HWY_INLINE void multiply(const operand* a, std::size_t a_stride, const std::byte* b,
                                  accumulators* acc) {
    const f32_tag tag;
    f32_vector column[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) {
      column[v] = hn::LoadU(tag, reinterpret_cast<const float*>(b) + v * lanes);
    }
    for (int row = 0; row < rows; ++row) {
      const f32_vector value = hn::Set(tag, a[row * a_stride]);
      for (int v = 0; v < tile_vectors; ++v)
        acc[row][v] = hn::MulAdd(value, column[v], acc[row][v]);
    }
  }
};

struct f16_steps {
  using operand = float;
  static constexpr std::size_t values = 1;
  static constexpr std::size_t column_bytes = 2;
  template <int rows>
  static HWY_INLINE void multiply(const operand* a, std::size_t a_stride, const std::byte* b,
                                  accumulators* acc) {
    const f32_tag tag;
    f32_vector column[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) {
      column[v] = f16_elements::load(reinterpret_cast<const std::uint16_t*>(b) + v * lanes);
    }
    for (int row = 0; row < rows; ++row) {
      const f32_vector value = hn::Set(tag, a[row * a_stride]);
      for (int v = 0; v < tile_vectors; ++v)
        acc[row][v] = hn::MulAdd(value, column[v], acc[row][v]);
    }
  }
};

// bf16 pairs (values 2s and 2s+1 of a column beside each other) against f32 values.
struct widened_pair_steps {
  using operand = float;
  static constexpr std::size_t values = 2;
  static constexpr std::size_t column_bytes = 4;
  template <int rows>
  static HWY_INLINE void multiply(const operand* a, std::size_t a_stride, const std::byte* b,
                                  accumulators* acc) {
    const f32_tag tag;
    const u32_tag bits_tag;
    u32_vector pair[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) {
      pair[v] = hn::LoadU(bits_tag, reinterpret_cast<const std::uint32_t*>(b) + v * lanes);
    }
    f32_vector column[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v)
      column[v] = hn::BitCast(tag, hn::ShiftLeft<16>(pair[v]));
    for (int row = 0; row < rows; ++row) {
      const f32_vector value = hn::Set(tag, a[row * a_stride]);
      for (int v = 0; v < tile_vectors; ++v)
        acc[row][v] = hn::MulAdd(value, column[v], acc[row][v]);
    }
    const u32_vector upper = hn::Set(bits_tag, 0xFFFF0000U);
    for (int v = 0; v < tile_vectors; ++v)
      column[v] = hn::BitCast(tag, hn::And(pair[v], upper));
    for (int row = 0; row < rows; ++row) {
      const f32_vector value = hn::Set(tag, a[row * a_stride + 1]);
      for (int v = 0; v < tile_vectors; ++v)
        acc[row][v] = hn::MulAdd(value, column[v], acc[row][v]);
    }
  }
};

#if WEFT_KERNELS_NATIVE_BF16
// Highway 1.0 does not know this instruction; as assembly it needs no target of its own, only the run-time
// check `native_bf16_products()`.
HWY_INLINE f32_vector dot_bf16_pairs(f32_vector sum, u32_vector a, u32_vector b) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
  return sum;
}

struct bf16_pair_steps {
  using operand = std::uint16_t;
  static constexpr std::size_t values = 2;
  static constexpr std::size_t column_bytes = 4;
  template <int rows>
  static HWY_INLINE void multiply(const operand* a, std::size_t a_stride, const std::byte* b,
                                  accumulators* acc) {
    const u32_tag tag;
    u32_vector pair[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) {
      pair[v] = hn::LoadU(tag, reinterpret_cast<const std::uint32_t*>(b) + v * lanes);
    }
    for (int row = 0; row < rows; ++row) {
      std::uint32_t value;
      std::memcpy(&value, a + row * a_stride, sizeof value);
      const u32_vector values_of_row = hn::Set(tag, value);
      for (int v = 0; v < tile_vectors; ++v) {
        acc[row][v] = dot_bf16_pairs(acc[row][v], values_of_row, pair[v]);
      }
    }
  }
};
#endif

// `steps` steps over one group of columns. b: first step of the group, steps `step_bytes` apart.
// `ahead_bytes`: how far in front of b to prefetch; 0 for operands that are in cache.
template <class Steps, int rows, std::size_t ahead_bytes>
HWY_INLINE void multiply_steps(const typename Steps::operand* a, std::size_t a_stride, const std::byte* b,
                               std::size_t step_bytes, std::size_t steps, accumulators* acc) {
  for (std::size_t step = 0; step < steps; ++step) {
    if constexpr (ahead_bytes != 0) {
      for (std::size_t line = 0; line < group_columns * Steps::column_bytes; line += 64) {
        hwy::Prefetch(b + ahead_bytes + line);
      }
    }
    Steps::template multiply<rows>(a, a_stride, b, acc);
    a += Steps::values;
    b += step_bytes;
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
