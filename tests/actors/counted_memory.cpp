#include "counted_memory.hpp"

#include <atomic>
#include <cstddef>
#include <cstdlib>

namespace {

// Below that it is actors and their messages, which are aligned as well.
constexpr std::size_t least_counted_bytes = 16 << 10;

std::atomic<std::uint64_t> asked_for{0};

}  // namespace

// In the place of the C library's.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  if (bytes >= least_counted_bytes) asked_for += bytes;
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, bytes) == 0 ? memory : nullptr;
}

namespace weft::simulation {

std::uint64_t aligned_bytes_asked_for() {
  return asked_for;
}

}  // namespace weft::simulation
