#include <weft/kernels/products.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include "cpu/row_tasks.hpp"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rotate_scatter.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"
#include "cpu/row_codec-inl.hpp"

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
                         out + std::size_t{2} * row * half);
  }
}

// Rows that are raw, or codes with their scales: where row `row` begins.
template <class Byte, class Scale>
struct row_place {
  Byte* codes;
  Scale* scales;
  row_place(Byte* first, Scale* first_scale, row_codec coding, dtype type, std::size_t head_dim,
            std::size_t raw_stride, std::size_t row)
      : codes(first + row * (coding == row_codec::raw ? raw_stride * size_bytes(type)
                                                      : code_bytes(coding, type, head_dim))),
        scales(coding == row_codec::raw ? nullptr : first_scale + row * scales_per_row(coding, head_dim)) {}
};
using row_source = row_place<const std::byte, const std::uint16_t>;
using row_target = row_place<std::byte, std::uint16_t>;

HWY_INLINE void read_row(const row_source& from, row_codec coding, dtype type, std::size_t head_dim,
                         float* wide) {
  if (coding == row_codec::raw)
    widen_row(type, from.codes, head_dim, wide);
  else
    decode_row(coding, from.codes, from.scales, head_dim, wide);
}

HWY_INLINE void write_row(const row_target& to, row_codec coding, dtype type, std::size_t head_dim,
                          const float* wide) {
  if (coding == row_codec::raw)
    narrow_row(type, wide, head_dim, to.codes);
  else
    encode_row(coding, wide, head_dim, to.codes, to.scales);
}

// Where either side is not raw. wide: room for two rows.
void recode_keys(const scatter_rows& item, dtype type, float* wide) {
  const rotation_table& table = *item.rotations;
  const std::size_t head_dim = table.head_dim();
  float* const turned = wide + head_dim;
  for (std::uint32_t row = 0; row < item.rows; ++row) {
    const std::uint32_t entry = item.entries != nullptr ? item.entries[row] : row;
    read_row({item.k, item.k_scales, item.coding, type, head_dim, item.source_row_stride, row}, item.coding,
             type, head_dim, wide);
    rotate_row<f32_elements>(wide, table.cosines(entry), table.sines(entry), head_dim / 2, turned);
    write_row({item.k_out, item.k_scales_out, item.coding_out, type, head_dim, head_dim, row},
              item.coding_out, type, head_dim, turned);
  }
}

void recode_values(const scatter_rows& item, dtype type, float* wide) {
  const std::size_t head_dim = item.rotations->head_dim();
  for (std::uint32_t row = 0; row < item.rows; ++row) {
    read_row({item.v, item.v_scales, item.coding, type, head_dim, item.source_row_stride, row}, item.coding,
             type, head_dim, wide);
    write_row({item.v_out, item.v_scales_out, item.coding_out, type, head_dim, head_dim, row},
              item.coding_out, type, head_dim, wide);
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
HWY_EXPORT(recode_keys);
HWY_EXPORT(recode_values);

namespace {

// What a thread has done before another one has begun.
constexpr std::size_t values_of_one_thread = 2048;

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

void copy_codes(const scatter_rows& item) {
  const std::size_t head_dim = item.rotations->head_dim();
  std::memcpy(item.v_out, item.v, item.rows * code_bytes(item.coding, dtype::f32, head_dim));
  std::memcpy(item.v_scales_out, item.v_scales,
              item.rows * scales_per_row(item.coding, head_dim) * sizeof(std::uint16_t));
}

void write_positions(const scatter_rows& item) {
  for (std::uint32_t row = 0; row < item.rows; ++row) {
    item.positions_out[row] = item.rotations->position(item.entries != nullptr ? item.entries[row] : row);
  }
}

}  // namespace

void rotate_scatter(std::span<const scatter_rows> items, dtype type, thread_pool& pool) {
  auto* const rotate_keys = &HWY_DYNAMIC_DISPATCH(rotate_keys_of);
  auto* const recode_keys = &HWY_DYNAMIC_DISPATCH(recode_keys);
  auto* const recode_values = &HWY_DYNAMIC_DISPATCH(recode_values);
  const auto scatter = [&](std::size_t index, unsigned worker) {
    const scatter_rows& item = items[index];
    if (item.rows == 0) return;
    if (item.coding == row_codec::raw && item.coding_out == row_codec::raw) {
      rotate_keys(item, type);
      copy_values(item, size_bytes(type));
    } else {
      const std::size_t wide_bytes = 2 * sizeof(float) * item.rotations->head_dim();
      auto* const wide = reinterpret_cast<float*>(pool.scratch(worker).reserve(wide_bytes).data());
      recode_keys(item, type, wide);
      if (item.coding == item.coding_out)
        copy_codes(item);
      else
        recode_values(item, type, wide);
    }
    if (item.positions_out != nullptr) write_positions(item);
  };
  std::size_t values = 0;
  for (const scatter_rows& item : items)
    if (item.rows > 0) values += std::size_t{item.rows} * item.rotations->head_dim();
  parallel_for_enough(pool, items.size(), values, values_of_one_thread, scatter);
}

}  // namespace weft::kernels
#endif
