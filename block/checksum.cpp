#include "checksum.hpp"

#define XXH_STATIC_LINKING_ONLY  // the state's size
#include <xxhash.h>
// Without these names the library takes the narrowest instructions of the architecture.
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

namespace weft::block {

std::uint64_t checksum_of(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

struct running_checksum::state {
  XXH3_state_t hash;
};

running_checksum::running_checksum() : state_(std::make_unique<state>()) {
  restart();
}
running_checksum::running_checksum(running_checksum&&) noexcept = default;
running_checksum& running_checksum::operator=(running_checksum&&) noexcept = default;
running_checksum::~running_checksum() = default;

void running_checksum::restart() {
  XXH3_64bits_reset(&state_->hash);
}

void running_checksum::append(std::span<const std::byte> piece) {
  XXH3_64bits_update(&state_->hash, piece.data(), piece.size());
}

std::uint64_t running_checksum::value() const {
  return XXH3_64bits_digest(&state_->hash);
}

}  // namespace weft::block
