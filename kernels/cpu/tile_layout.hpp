// What packers and products agree on, independent of the vector width.
#pragma once

#include <cstddef>

namespace weft::kernels {

// Columns (outputs, keys) that lie beside each other in a packed operand.
inline constexpr std::size_t tile_columns = 64;

// Rows that share one pass over a tile.
inline constexpr std::size_t tile_rows = 6;

}  // namespace weft::kernels
