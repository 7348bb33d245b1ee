#include <weft/schema/checksum.hpp>

#include <xxhash.h>

#include <new>

namespace weft::schema {
namespace {

struct free_state {
  void operator()(XXH3_state_t* s) const { XXH3_freeState(s); }
};

}  // namespace

struct running_checksum::state {
  std::unique_ptr<XXH3_state_t, free_state> xxh{XXH3_createState()};
};

running_checksum::running_checksum() : state_(std::make_unique<state>()) {
  if (!state_->xxh) throw std::bad_alloc();
  XXH3_64bits_reset(state_->xxh.get());
}

running_checksum::running_checksum(running_checksum&&) noexcept = default;
running_checksum& running_checksum::operator=(running_checksum&&) noexcept = default;
running_checksum::~running_checksum() = default;

void running_checksum::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_->xxh.get(), bytes.data(), bytes.size());
}

std::uint64_t running_checksum::value() const {
  return XXH3_64bits_digest(state_->xxh.get());
}

std::uint64_t checksum_of(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t checksum_of(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace weft::schema
