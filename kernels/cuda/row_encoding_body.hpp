// What one thread does to encode rows: the channels of one scale, a whole row (int8) or 32 channels (int4).
#pragma once

#include "cuda/elements.hpp"
#include "cuda/stored_rows.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

WEFT_BOTH_SIDES inline float magnitude(float x) {
  return bits_as<float>(bits_as<std::uint32_t>(x) & 0x7FFFFFFFU);
}

// To the nearest, ties to even.
WEFT_BOTH_SIDES inline int nearest_whole(float x) {
#if defined(__CUDA_ARCH__)
  return __float2int_rn(x);
#else
  return static_cast<int>(__builtin_nearbyintf(x));
#endif
}

WEFT_BOTH_SIDES inline int limited(int x, int least, int most) {
  return x < least ? least : x > most ? most : x;
}

struct code_scale {
  std::uint16_t bits;  // bf16
  float inverse;       // 0: every value is coded as zero
};

// Of a scale below 2^-118 the inverse would not be a normal number.
WEFT_BOTH_SIDES inline code_scale code_scale_of(float wanted) {
  const std::uint16_t bits = bf16_elements::narrow(wanted);
  const float rounded = bf16_elements::widen(bits);
  if (magnitude(rounded) < 0x1p-118F) return {0, 0.0F};
  return {bits, 1.0F / rounded};
}

// Of `count` channels, whose elements begin at `values`. NaN where one of them is not finite.
template <class Elements>
WEFT_BOTH_SIDES code_scale scale_of_channels(const typename Elements::storage* values, std::uint32_t count,
                                             row_codec coding) {
  float extreme = 0.0F;
  for (std::uint32_t i = 0; i < count; ++i) {
    const float value = Elements::widen(values[i]);
    if (!(magnitude(value) <= 3.40282347e+38F)) return {0x7FC0, 0.0F};
    if (magnitude(value) > magnitude(extreme)) extreme = value;  // the first of several
  }
  return code_scale_of(coding == row_codec::int8 ? magnitude(extreme) / 127.0F : extreme / -8.0F);
}

WEFT_BOTH_SIDES inline std::uint32_t scales_of_row(row_codec coding, std::uint32_t head_dim) {
  if (coding == row_codec::int8) return 1;
  return (head_dim + int4_rows::group - 1) / int4_rows::group;
}

template <class Elements>
WEFT_BOTH_SIDES void encode_int8(const typename Elements::storage* values, std::uint32_t count,
                                 const code_scale& scale, std::byte* codes) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const float value = Elements::widen(values[i]);
    const int code = scale.inverse == 0.0F ? 0 : limited(nearest_whole(value * scale.inverse), -127, 127);
    codes[i] = static_cast<std::byte>(code & 0xFF);
  }
}

template <class Elements>
WEFT_BOTH_SIDES std::uint32_t int4_code(typename Elements::storage stored, const code_scale& scale) {
  if (scale.inverse == 0.0F) return 8;
  const float value = Elements::widen(stored);
  return static_cast<std::uint32_t>(limited(nearest_whole(value * scale.inverse) + 8, 0, 15));
}

// Of a channel of the first half in the low bits, of that one half further in the high bits.
template <class Elements>
WEFT_BOTH_SIDES void encode_int4(const typename Elements::storage* values, std::uint32_t count,
                                 const code_scale& scale, std::byte* codes) {
  const std::uint32_t half = (count + 1) / 2;
  for (std::uint32_t i = 0; i < half; ++i) {
    const std::uint32_t low = int4_code<Elements>(values[i], scale);
    const std::uint32_t high = i + half < count ? int4_code<Elements>(values[i + half], scale) : 8;
    codes[i] = static_cast<std::byte>(low | high << 4);
  }
}

// Scale `index` of an item's row `row`, and the codes of its channels.
template <class Elements, class Item>
WEFT_BOTH_SIDES void encode_scale(const Item& item, std::uint32_t row, std::uint32_t index,
                                  std::uint32_t head_dim) {
  const std::size_t from = item.indices != nullptr ? item.indices[row] : row;
  const auto* const values =
      reinterpret_cast<const typename Elements::storage*>(item.rows) + from * item.row_stride;
  std::uint16_t* const scales = item.scales + std::size_t{row} * scales_of_row(item.coding, head_dim);
  if (item.coding == row_codec::int8) {
    const code_scale scale = scale_of_channels<Elements>(values, head_dim, item.coding);
    scales[0] = scale.bits;
    encode_int8<Elements>(values, head_dim, scale, item.codes + row * int8_rows::row_bytes(head_dim));
    return;
  }
  const std::uint32_t first = index * int4_rows::group;
  const std::uint32_t count = head_dim - first < int4_rows::group ? head_dim - first : int4_rows::group;
  const code_scale scale = scale_of_channels<Elements>(values + first, count, item.coding);
  scales[index] = scale.bits;
  encode_int4<Elements>(values + first, count, scale,
                        item.codes + row * int4_rows::row_bytes(head_dim) + first / 2);
}

}  // namespace weft::kernels::cuda
