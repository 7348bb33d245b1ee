// A copy of bytes that nobody reads soon: past the caches, so that memory is written without being read
// first.
#pragma once

#include <cstddef>

namespace weft::fabric {

// The two do not overlap.
void streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes);

}  // namespace weft::fabric
