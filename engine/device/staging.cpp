#include "staging.hpp"

#include "device_alignment.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::size_t least_piece_bytes = std::size_t{1} << 20U;

}  // namespace

staging::staging(std::shared_ptr<device::device> owner, device::stream& stream)
    : owner_(std::move(owner)), stream_(stream) {}

std::byte* staging::add_bytes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return nullptr;
  piece* const to = piece_for(aligned_on_device(bytes.size()));
  if (to == nullptr) return nullptr;
  const std::size_t at = to->used_bytes;
  std::memcpy(to->pinned.data() + at, bytes.data(), bytes.size());
  to->used_bytes += aligned_on_device(bytes.size());
  return to->there.data() + at;
}

staging::piece* staging::piece_for(std::size_t bytes) {
  const auto roomy = std::ranges::find_if(
      pieces_, [&](const piece& p) { return p.pinned.size_bytes() - p.used_bytes >= bytes; });
  if (roomy != pieces_.end()) return &*roomy;
  const std::size_t size = std::max(bytes, least_piece_bytes);
  constexpr std::string_view purpose = "the lists of a forward pass";
  auto pinned = owner_->allocate_pinned(size, purpose);
  auto there = owner_->allocate(size, purpose);
  if (!pinned || !there) {
    if (failed_) failed_ = tl::unexpected(pinned ? there.error() : pinned.error());
    return nullptr;
  }
  pieces_.push_back({.pinned = std::move(*pinned), .there = std::move(*there)});
  return &pieces_.back();
}

result<void> staging::flush() {
  if (!failed_) return failed_;
  for (piece& p : pieces_) {
    if (p.used_bytes == p.flushed_bytes) continue;
    stream_.upload(p.there.data() + p.flushed_bytes, p.pinned.data() + p.flushed_bytes,
                   p.used_bytes - p.flushed_bytes);
    p.flushed_bytes = p.used_bytes;
  }
  return {};
}

void staging::reset() {
  failed_ = {};
  for (piece& p : pieces_)
    p.used_bytes = p.flushed_bytes = 0;
}

result<std::byte*> growing_memory::reserve(device::device& owner, std::size_t bytes,
                                           std::string_view purpose) {
  if (bytes <= memory_.size_bytes()) return memory_.data();
  auto larger = owner.allocate(bytes, purpose);
  if (!larger) return tl::unexpected(larger.error());
  outgrown_.push_back(std::exchange(memory_, std::move(*larger)));
  return memory_.data();
}

}  // namespace weft::engine
