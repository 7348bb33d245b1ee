// Proves the blocks of a fetch while they come in, in memory that is used again from fetch to fetch.
#pragma once

#include <weft/block/block_verifier.hpp>
#include <weft/fabric/fetch_watcher.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace weft::actors {

class block_watcher final : public fabric::fetch_watcher {
 public:
  // Of the next range of the fetch, before it begins: each is one block, or the first bands of one.
  void expect(const block::expectation& block) { expected_.push_back(block); }

  void arrived(std::size_t range, std::span<const std::byte> bytes) override;
  result<void> complete(std::size_t range) override;

 private:
  std::vector<block::expectation> expected_;
  block::block_verifier verifier_;
  std::span<const std::byte> whole_;  // of the range that comes in

  friend class watcher_stock;
};

// Watchers that wait for their next fetch. Any thread.
class watcher_stock {
 public:
  watcher_stock() : shelf_(std::make_shared<shelf>()) {}

  // Expects nothing yet. Comes back here when the last handle to it goes, as long as there is room.
  std::shared_ptr<block_watcher> take();

 private:
  struct shelf {
    std::mutex mutex;
    std::vector<std::unique_ptr<block_watcher>> idle;
  };
  std::shared_ptr<shelf> shelf_;
};

}  // namespace weft::actors
