// Keys and values of documents that came to a device and not to the host's caches, and those of them that the
// host needed after all.
#pragma once

#include <weft/engine/compute_device.hpp>

#include <atomic>
#include <cstdint>

namespace weft::engine {

// Of all caches on a device. Any thread may look at them.
struct rows_away {
  std::atomic<std::uint64_t> left_bytes = 0;
  std::atomic<std::uint64_t> brought_bytes = 0;
};

rows_away& rows_away_of(const compute_device& on);

}  // namespace weft::engine
