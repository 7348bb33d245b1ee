#include <weft/actors/staging.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace weft::actors {

namespace {

using machines::arena_allocator;

constexpr std::uint32_t nobody = 0;  // the allocator's mark on a place, which nothing here asks for

std::uint64_t whole_units(std::uint64_t bytes) {
  return bytes / arena_allocator::unit_bytes * arena_allocator::unit_bytes;
}

}  // namespace

staged_bytes::staged_bytes(std::shared_ptr<staging> owner, arena_allocator::place place, std::uint64_t offset,
                           std::uint64_t bytes)
    : owner_(std::move(owner)), place_(place), offset_(offset), bytes_(bytes) {}

staged_bytes::staged_bytes(staged_bytes&& other) noexcept
    : owner_(std::move(other.owner_)), place_(other.place_), offset_(other.offset_), bytes_(other.bytes_) {}

staged_bytes& staged_bytes::operator=(staged_bytes&& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(place_, other.place_);
  std::swap(offset_, other.offset_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

staged_bytes::~staged_bytes() {
  if (owner_) owner_->give_back(place_);
}

std::span<std::byte> staged_bytes::bytes() const {
  if (!owner_) return {};
  return owner_->arena_.subspan(offset_, bytes_);
}

staging::staging(std::span<std::byte> arena, std::uint64_t capacity_bytes)
    : arena_(arena), places_(0, whole_units(std::min<std::uint64_t>(capacity_bytes, arena.size()))) {}

result<staged_bytes> staging::take(std::uint64_t bytes) {
  const auto capacity = std::to_string(places_.capacity_bytes());
  if (bytes == 0 || bytes > places_.capacity_bytes()) {
    return fail(errc::invalid_argument, std::to_string(bytes) +
                                            " bytes do not fit into the staging area of " + capacity +
                                            " bytes; raise `staging`");
  }
  const std::lock_guard lock{mutex_};
  const auto place = places_.allocate(bytes, nobody);
  if (place) return staged_bytes{shared_from_this(), *place, places_.offset(*place), bytes};
  return fail(errc::out_of_space, "the staging area is full (" + std::to_string(places_.used_bytes()) +
                                      " of " + capacity + " bytes); try again or raise `staging`");
}

std::uint64_t staging::used_bytes() const {
  const std::lock_guard lock{mutex_};
  return places_.used_bytes();
}

void staging::give_back(arena_allocator::place place) {
  const std::lock_guard lock{mutex_};
  places_.free(place);
}

}  // namespace weft::actors
