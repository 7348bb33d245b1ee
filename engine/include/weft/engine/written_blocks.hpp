// Blocks of documents that a device computed, by who wrote them.
#pragma once

#include <weft/engine/compute_device.hpp>

#include <atomic>
#include <cstdint>

namespace weft::engine {

// Of all documents on a device. Any thread may look at them.
struct written_blocks {
  std::atomic<std::uint64_t> there = 0;  // the device
  std::atomic<std::uint64_t> here = 0;   // the host, since the device failed or had no room for the rows
};

written_blocks& blocks_of(const compute_device& on);

}  // namespace weft::engine
