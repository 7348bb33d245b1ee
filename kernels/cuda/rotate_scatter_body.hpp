// What one thread does for rotate_scatter: `Width` pairs of one row's key, and the same part of its value.
#pragma once

#include "cuda/stored_rows.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// Products are rounded before they are added, as on the CPU.
WEFT_BOTH_SIDES inline float rotated(float x, float y, float cosine, float sine) {
#if defined(__CUDA_ARCH__)
  return __fsub_rn(__fmul_rn(x, cosine), __fmul_rn(y, sine));
#else
  return x * cosine - y * sine;
#endif
}

// Elements [part*Width, ...) of both halves of the row. `Rows` is the item (device pointers on the device).
template <class Elements, int Width, class Rows>
WEFT_BOTH_SIDES void rotate_part(const Rows& item, std::uint32_t row, std::uint32_t part,
                                 std::uint32_t head_dim) {
  using storage = typename Elements::storage;
  using pack = element_pack<Elements, Width>;
  const std::size_t half = head_dim / 2;
  const std::size_t from = std::size_t{row} * item.source_row_stride + std::size_t{part} * Width;
  const std::size_t to = std::size_t{row} * head_dim + std::size_t{part} * Width;
  const auto* k = reinterpret_cast<const storage*>(item.k) + from;
  const auto* v = reinterpret_cast<const storage*>(item.v) + from;
  auto* k_out = reinterpret_cast<storage*>(item.k_out) + to;
  auto* v_out = reinterpret_cast<storage*>(item.v_out) + to;

  const pack low = *reinterpret_cast<const pack*>(k);
  const pack high = *reinterpret_cast<const pack*>(k + half);
  *reinterpret_cast<pack*>(v_out) = *reinterpret_cast<const pack*>(v);
  *reinterpret_cast<pack*>(v_out + half) = *reinterpret_cast<const pack*>(v + half);

  const std::size_t entry = item.entries != nullptr ? item.entries[row] : row;
  const float* cosines = item.rotations + entry * head_dim + std::size_t{part} * Width;
  const float* sines = cosines + half;
  pack low_out;
  pack high_out;
  for (int i = 0; i < Width; ++i) {
    const float x = Elements::widen(low.at[i]);
    const float y = Elements::widen(high.at[i]);
    low_out.at[i] = Elements::narrow(rotated(x, y, cosines[i], sines[i]));
    high_out.at[i] = Elements::narrow(rotated(y, x, cosines[i], -sines[i]));
  }
  *reinterpret_cast<pack*>(k_out) = low_out;
  *reinterpret_cast<pack*>(k_out + half) = high_out;
}

// The same of an item in a codec: keys are decoded, rotated and rounded once, values decoded and rounded.
template <class Elements, int Width, class Codes, class Rows>
WEFT_BOTH_SIDES void rotate_coded_part(const Rows& item, std::uint32_t row, std::uint32_t part,
                                       std::uint32_t head_dim) {
  using storage = typename Elements::storage;
  using pack = element_pack<Elements, Width>;
  const std::uint32_t half = head_dim / 2;
  const std::uint32_t first = part * Width;
  const std::size_t codes_at = std::size_t{row} * Codes::row_bytes(head_dim);
  const std::size_t scales_at = std::size_t{row} * Codes::scales(head_dim);
  const std::byte* const k = item.k + codes_at;
  const std::byte* const v = item.v + codes_at;
  const std::uint16_t* const k_scales = item.k_scales + scales_at;
  const std::uint16_t* const v_scales = item.v_scales + scales_at;
  const std::size_t to = std::size_t{row} * head_dim + first;
  auto* const k_out = reinterpret_cast<storage*>(item.k_out) + to;
  auto* const v_out = reinterpret_cast<storage*>(item.v_out) + to;
  const std::size_t entry = item.entries != nullptr ? item.entries[row] : row;
  const float* const cosines = item.rotations + entry * head_dim + first;
  const float* const sines = cosines + half;
  pack k_low;
  pack k_high;
  pack v_low;
  pack v_high;
  for (std::uint32_t i = 0; i < Width; ++i) {
    const std::uint32_t low = first + i;
    const float x = Codes::widen_channel(k, k_scales, low, head_dim);
    const float y = Codes::widen_channel(k, k_scales, low + half, head_dim);
    k_low.at[i] = Elements::narrow(rotated(x, y, cosines[i], sines[i]));
    k_high.at[i] = Elements::narrow(rotated(y, x, cosines[i], -sines[i]));
    v_low.at[i] = Elements::narrow(Codes::widen_channel(v, v_scales, low, head_dim));
    v_high.at[i] = Elements::narrow(Codes::widen_channel(v, v_scales, low + half, head_dim));
  }
  *reinterpret_cast<pack*>(k_out) = k_low;
  *reinterpret_cast<pack*>(k_out + half) = k_high;
  *reinterpret_cast<pack*>(v_out) = v_low;
  *reinterpret_cast<pack*>(v_out + half) = v_high;
}

// One thread's part of an item, whatever it is stored in.
template <class Elements, int Width, class Rows>
WEFT_BOTH_SIDES void rotate_stored_part(const Rows& item, std::uint32_t row, std::uint32_t part,
                                        std::uint32_t head_dim) {
  if (item.coding == row_codec::int8)
    rotate_coded_part<Elements, Width, int8_rows>(item, row, part, head_dim);
  else if (item.coding == row_codec::int4)
    rotate_coded_part<Elements, Width, int4_rows>(item, row, part, head_dim);
  else
    rotate_part<Elements, Width>(item, row, part, head_dim);
}

}  // namespace weft::kernels::cuda
