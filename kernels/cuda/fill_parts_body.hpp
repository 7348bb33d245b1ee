// What a warp does to fill a part of a block with numbers, and with zeros behind them.
#pragma once

#include "cuda/both_sides.hpp"
#include "cuda/lanes.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

template <class Warp, class Item>
WEFT_BOTH_SIDES void fill_part(const Warp& warp, const Item& item) {
  auto* const numbers = reinterpret_cast<std::uint16_t*>(item.to);
  std::byte* const zeros = item.to + std::size_t{item.count} * sizeof(std::uint16_t);
  warp.each([&](std::uint32_t lane) {
    for (std::uint32_t i = lane; i < item.count; i += warp_lanes)
      numbers[i] = item.numbers[i];
    for (std::uint32_t i = lane; i < item.zero_bytes; i += warp_lanes)
      zeros[i] = std::byte{0};
  });
}

}  // namespace weft::kernels::cuda
