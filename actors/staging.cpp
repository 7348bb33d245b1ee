#include <weft/actors/staging.hpp>
#include <weft/block/layout.hpp>

#include <string>
#include <utility>

namespace weft::actors {

namespace {
std::uint64_t rounded(std::uint64_t bytes) {
  constexpr std::uint64_t unit = block::block_alignment_bytes;
  return (bytes + unit - 1) / unit * unit;
}
}  // namespace

staged_bytes::staged_bytes(std::shared_ptr<staging> owner, std::uint64_t offset, std::uint64_t bytes)
    : owner_(std::move(owner)), offset_(offset), bytes_(bytes) {}

staged_bytes::staged_bytes(staged_bytes&& other) noexcept
    : owner_(std::move(other.owner_)), offset_(other.offset_), bytes_(other.bytes_) {}

staged_bytes& staged_bytes::operator=(staged_bytes&& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(offset_, other.offset_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

staged_bytes::~staged_bytes() {
  if (owner_) owner_->give_back(offset_, bytes_);
}

std::span<std::byte> staged_bytes::bytes() const {
  if (!owner_) return {};
  return owner_->arena_.subspan(offset_, bytes_);
}

staging::staging(std::span<std::byte> arena, std::uint64_t capacity_bytes)
    : arena_(arena), capacity_(std::min<std::uint64_t>(capacity_bytes, arena.size())) {
  if (capacity_ > 0) free_.emplace(0, capacity_);
}

result<staged_bytes> staging::take(std::uint64_t bytes) {
  const std::uint64_t wanted = rounded(bytes);
  if (bytes == 0 || wanted > capacity_) {
    return fail(errc::invalid_argument, std::to_string(bytes) +
                                            " bytes do not fit into the staging area of " +
                                            std::to_string(capacity_) + " bytes; raise `staging`");
  }
  const std::lock_guard lock{mutex_};
  for (auto piece = free_.begin(); piece != free_.end(); ++piece) {
    const auto [offset, length] = *piece;
    if (length < wanted) continue;
    free_.erase(piece);
    if (length > wanted) free_.emplace(offset + wanted, length - wanted);
    used_ += wanted;
    return staged_bytes{shared_from_this(), offset, bytes};
  }
  return fail(errc::out_of_space, "the staging area is full (" + std::to_string(used_) + " of " +
                                      std::to_string(capacity_) + " bytes); try again or raise `staging`");
}

std::uint64_t staging::used_bytes() const {
  const std::lock_guard lock{mutex_};
  return used_;
}

void staging::give_back(std::uint64_t offset, std::uint64_t bytes) {
  std::uint64_t length = rounded(bytes);
  const std::lock_guard lock{mutex_};
  used_ -= length;
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + length) {
    length += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += length;
      return;
    }
  }
  free_.emplace_hint(next, offset, length);
}

}  // namespace weft::actors
