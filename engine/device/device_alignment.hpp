// Where arrays begin that share one allocation on a device: as far apart as `cudaMalloc` puts them.
#pragma once

#include <cstddef>

namespace weft::engine {

inline constexpr std::size_t device_alignment_bytes = 256;

constexpr std::size_t aligned_on_device(std::size_t bytes) {
  return (bytes + device_alignment_bytes - 1) / device_alignment_bytes * device_alignment_bytes;
}

}  // namespace weft::engine
