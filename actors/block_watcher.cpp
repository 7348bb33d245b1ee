#include <weft/actors/block_watcher.hpp>

#include <utility>

namespace weft::actors {

namespace {

constexpr std::size_t idle_watchers_max = 64;

}  // namespace

void block_watcher::arrived(std::size_t, std::span<const std::byte> bytes) {
  // The pieces of a range lie one behind the other in the arena.
  whole_ = whole_.empty() ? bytes : std::span{whole_.data(), whole_.size() + bytes.size()};
  verifier_.append(bytes);
}

result<void> block_watcher::complete(std::size_t range) {
  auto proof = verifier_.finish(whole_, expected_.at(range));
  verifier_.restart();
  whole_ = {};
  return proof;
}

std::shared_ptr<block_watcher> watcher_stock::take() {
  std::unique_ptr<block_watcher> made;
  {
    const std::lock_guard lock{shelf_->mutex};
    if (!shelf_->idle.empty()) {
      made = std::move(shelf_->idle.back());
      shelf_->idle.pop_back();
    }
  }
  if (!made) made = std::make_unique<block_watcher>();
  return {made.release(), [shelf = shelf_](block_watcher* used) {
            std::unique_ptr<block_watcher> back{used};
            // A fetch that failed may have ended inside a block.
            back->expected_.clear();
            back->verifier_.restart();
            back->whole_ = {};
            const std::lock_guard lock{shelf->mutex};
            if (shelf->idle.size() < idle_watchers_max) shelf->idle.push_back(std::move(back));
          }};
}

}  // namespace weft::actors
