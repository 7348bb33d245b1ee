#include <weft/kernels/products.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rotate_scatter.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

template <class Elements>
HWY_INLINE void rotate_row(const typename Elements::storage* in, const float* cosines, const float* sines,
                           std::size_t half, typename Elements::storage* out) {
  const f32_tag tag;
  std::size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const f32_vector low = Elements::load(in + i);
    const f32_vector high = Elements::load(in + half + i);
    const f32_vector c = hn::LoadU(tag, cosines + i);
    const f32_vector s = hn::LoadU(tag, sines + i);
    Elements::store(hn::Sub(hn::Mul(low, c), hn::Mul(high, s)), out + i);
    Elements::store(hn::Add(hn::Mul(high, c), hn::Mul(low, s)), out + half + i);
  }
  for (; i < half; ++i) {
    const float low = Elements::widen(in[i]);
    const float high = Elements::widen(in[half + i]);
    out[i] = Elements::narrow(low * cosines[i] - high * sines[i]);
    out[half + i] = Elements::narrow(high * cosines[i] + low * sines[i]);
  }
}

template <class Elements>
void rotate_keys(const scatter_rows& item) {
  using storage = typename Elements::storage;
  const rotation_table& table = *item.rotations;
  const std::size_t half = table.head_dim() / 2;
  const auto* in = reinterpret_cast<const storage*>(item.k);
  auto* out = reinterpret_cast<storage*>(item.k_out);
  for (std::uint32_t row = 0; row < item.rows; ++row) {
    const std::uint32_t entry = item.entries != nullptr ? item.entries[row] : row;
    rotate_row<Elements>(in + row * item.source_row_stride, table.cosines(entry), table.sines(entry), half,
                         out + row * 2 * half);
  }
}

void rotate_keys_of(const scatter_rows& item, dtype type) {
#if WEFT_KERNELS_NATIVE_BF16
  if (type == dtype::bf16 && native_bf16_products()) return rotate_keys<native_bf16_elements>(item);
#endif
  switch (type) {
    case dtype::bf16:
      return rotate_keys<bf16_elements>(item);
    case dtype::f16:
      return rotate_keys<f16_elements>(item);
    default:
      return rotate_keys<f32_elements>(item);
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(rotate_keys_of);

namespace {

void copy_values(const scatter_rows& item, std::size_t element_bytes) {
  const std::size_t head_dim = item.rotations->head_dim();
  const std::size_t row_bytes = head_dim * element_bytes;
  if (item.source_row_stride == head_dim) {
    std::memcpy(item.v_out, item.v, item.rows * row_bytes);
    return;
  }
  for (std::size_t row = 0; row < item.rows; ++row) {
    std::memcpy(item.v_out + row * row_bytes, item.v + row * item.source_row_stride * element_bytes,
                row_bytes);
  }
}

void write_positions(const scatter_rows& item) {
  for (std::uint32_t row = 0; row < item.rows; ++row) {
    item.positions_out[row] = item.rotations->position(item.entries != nullptr ? item.entries[row] : row);
  }
}

}  // namespace

void rotate_scatter(std::span<const scatter_rows> items, dtype type, thread_pool& pool) {
  auto* const rotate_keys = &HWY_DYNAMIC_DISPATCH(rotate_keys_of);
  pool.parallel_for(items.size(), [&](std::size_t index, unsigned) {
    const scatter_rows& item = items[index];
    if (item.rows == 0) return;
    rotate_keys(item, type);
    copy_values(item, size_bytes(type));
    if (item.positions_out != nullptr) write_positions(item);
  });
}

}  // namespace weft::kernels
#endif
