#include "counted_memory.hpp"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

namespace {

// Below that it is actors and their messages, which are aligned as well.
constexpr std::size_t least_counted_bytes = 16 << 10;

std::atomic<std::uint64_t> asked_for{0};

}  // namespace

// In the place of the C library's.
extern "C" int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
  if (bytes >= least_counted_bytes) asked_for += bytes;
  *memory = memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}

namespace weft::simulation {

std::uint64_t aligned_bytes_asked_for() {
  return asked_for;
}

}  // namespace weft::simulation
