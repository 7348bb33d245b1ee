// How often this program has asked for memory with `new`, in any thread. Link counted_allocations.cpp.
#pragma once

#include <cstdint>

namespace weft::testing {

std::uint64_t allocations();

}  // namespace weft::testing
