// What the allocator of caches and scratch memory was asked for. Programs that link counted_memory.cpp have
// that allocator replaced.
#pragma once

#include <cstdint>

namespace weft::simulation {

// Bytes asked for so far, in pieces of 16 KiB or more, in the whole process.
std::uint64_t aligned_bytes_asked_for();

}  // namespace weft::simulation
