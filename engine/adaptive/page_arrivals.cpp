#include <weft/engine/adaptive/page_arrivals.hpp>

#include <utility>

namespace weft::engine {

void page_arrivals::expect(std::size_t pages) {
  const std::lock_guard lock(mutex_);
  pages_.assign(pages, {});
  owners_.clear();
  owners_.reserve(pages);
  missing_ = pages;
}

void page_arrivals::deliver(std::size_t place, page_bytes bytes, std::shared_ptr<const void> owner) {
  const std::lock_guard lock(mutex_);
  pages_[place] = bytes;
  if (!bytes.empty()) owners_.push_back(std::move(owner));
  if (--missing_ == 0) changed_.notify_all();
}

bool page_arrivals::complete() {
  const std::lock_guard lock(mutex_);
  return missing_ == 0;
}

std::span<const page_bytes> page_arrivals::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return missing_ == 0; });
  return pages_;
}

}  // namespace weft::engine
