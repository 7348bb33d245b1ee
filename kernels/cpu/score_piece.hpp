// How a piece of vectors is multiplied and summed.
#pragma once

#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::kernels {

constexpr float least_product = -1e30F;

// The blocks of a piece sum to no more over a base that was well chosen.
constexpr float most_piece_sum = 0x1p64F;

// Lines of queries that are multiplied with a tile at once and stay in registers.
constexpr std::uint32_t lines_at_once = 4;

// Consecutive tiles, and what they are multiplied with.
struct key_tiles {
  dtype type;
  dtype operands;  // of the products
  const std::byte* first;
  std::size_t tile_bytes;
  std::size_t count;
  std::size_t channels;  // padded to whole pairs
};

}  // namespace weft::kernels
