// How a piece of vectors is multiplied and summed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::kernels {

constexpr float least_product = -1e30F;
constexpr std::size_t cache_line_bytes = 64;

// Lines of queries whose products with a piece lie in the first-level cache beside it.
constexpr std::uint32_t lines_at_once = 4;

// By itself memory brings little while products are multiplied and summed, so it is asked for the next piece:
// for this much beside each channel of a tile, half of what bf16 has there, for the rest beside the
// exponentials.
constexpr std::size_t asked_bytes_per_channel = 64;

}  // namespace weft::kernels
