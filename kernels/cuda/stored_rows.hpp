// Rows of K or V as they lie in memory, in the elements' type or in a codec, and how one lane reads some
// channels of one: the same on the device and on the host.
#pragma once

#include <weft/kernels/row_codec.hpp>

#include "cuda/elements.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// Channels that a lane reads at once.
inline constexpr int lane_elements = 8;

template <class Elements>
struct raw_rows {
  static constexpr row_codec coding = row_codec::raw;
  static constexpr int passes_together = 4;  // whose rows are on their way at the same time

  WEFT_BOTH_SIDES static std::size_t row_bytes(std::uint32_t head_dim) {
    return head_dim * sizeof(typename Elements::storage);
  }
  WEFT_BOTH_SIDES static std::size_t scales(std::uint32_t) { return 0; }

  // Channels [first, first + 8) of the row at `codes`; `first` is a multiple of 8.
  WEFT_BOTH_SIDES static void widen(const std::byte* codes, const std::uint16_t*, std::uint32_t first,
                                    std::uint32_t, float (&to)[lane_elements]) {
    constexpr int width = 16 / sizeof(typename Elements::storage);
    using pack = element_pack<Elements, width>;
    const auto* const packs =
        reinterpret_cast<const pack*>(codes + first * sizeof(typename Elements::storage));
    for (int part = 0; part < lane_elements / width; ++part) {
      const pack packed = packs[part];
      for (int i = 0; i < width; ++i)
        to[part * width + i] = Elements::widen(packed.at[i]);
    }
  }
};

// value = code * scale, one scale a row.
struct int8_rows {
  static constexpr row_codec coding = row_codec::int8;
  static constexpr int passes_together = 2;

  WEFT_BOTH_SIDES static std::size_t row_bytes(std::uint32_t head_dim) { return head_dim; }
  WEFT_BOTH_SIDES static std::size_t scales(std::uint32_t) { return 1; }

  WEFT_BOTH_SIDES static void widen(const std::byte* codes, const std::uint16_t* scale, std::uint32_t first,
                                    std::uint32_t, float (&to)[lane_elements]) {
    struct alignas(8) pack {
      std::int8_t at[lane_elements];
    };
    const pack packed = *reinterpret_cast<const pack*>(codes + first);
    const float factor = bf16_elements::widen(*scale);
    for (int i = 0; i < lane_elements; ++i)
      to[i] = static_cast<float>(packed.at[i]) * factor;
  }
  WEFT_BOTH_SIDES static float widen_channel(const std::byte* codes, const std::uint16_t* scale,
                                             std::uint32_t channel, std::uint32_t) {
    return static_cast<float>(static_cast<std::int8_t>(codes[channel])) * bf16_elements::widen(*scale);
  }
};

// value = (code - 8) * scale, one scale for each 32 channels. A byte has a channel of its group's first half
// in its low bits and the one half a group further in its high bits.
struct int4_rows {
  static constexpr row_codec coding = row_codec::int4;
  static constexpr int passes_together = 1;
  static constexpr std::uint32_t group = int4_group_channels;

  WEFT_BOTH_SIDES static std::size_t row_bytes(std::uint32_t head_dim) { return (head_dim + 1) / 2; }
  WEFT_BOTH_SIDES static std::size_t scales(std::uint32_t head_dim) { return (head_dim + group - 1) / group; }

  WEFT_BOTH_SIDES static void widen(const std::byte* codes, const std::uint16_t* scales, std::uint32_t first,
                                    std::uint32_t head_dim, float (&to)[lane_elements]) {
    for (std::uint32_t i = 0; i < lane_elements; ++i)
      to[i] = widen_channel(codes, scales, first + i, head_dim);
  }
  WEFT_BOTH_SIDES static float widen_channel(const std::byte* codes, const std::uint16_t* scales,
                                             std::uint32_t channel, std::uint32_t head_dim) {
    const std::uint32_t begin = channel / group * group;
    const std::uint32_t left = head_dim - begin;
    const std::uint32_t half = ((left < group ? left : group) + 1) / 2;
    const std::uint32_t place = channel - begin;
    const bool high = place >= half;
    const auto both = static_cast<std::uint32_t>(codes[begin / 2 + (high ? place - half : place)]);
    return static_cast<float>(static_cast<int>(high ? both >> 4 : both & 15U) - 8) *
           bf16_elements::widen(scales[channel / group]);
  }
};

}  // namespace weft::kernels::cuda
