// The largest of many scores.
#pragma once

#include <cstdint>
#include <span>

namespace weft::kernels {

// Writes the indices of the out.size() largest scores, ascending. Of equal scores the lower index wins; NaN
// loses against everything. `out` is no longer than `scores`.
void top_k(std::span<const float> scores, std::span<std::uint32_t> out);

}  // namespace weft::kernels
