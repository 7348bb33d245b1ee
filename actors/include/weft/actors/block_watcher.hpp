// Proves the blocks of a fetch while they come in.
#pragma once

#include <weft/block/block_verifier.hpp>
#include <weft/fabric/fetch_watcher.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace weft::actors {

class block_watcher final : public fabric::fetch_watcher {
 public:
  // By range of the fetch: each is one block, or the first bands of one.
  explicit block_watcher(std::vector<block::expectation> expected) : expected_(std::move(expected)) {}

  void arrived(std::size_t range, std::span<const std::byte> bytes) override;
  result<void> complete(std::size_t range) override;

 private:
  std::vector<block::expectation> expected_;
  block::block_verifier verifier_;
  std::span<const std::byte> whole_;  // of the range that comes in
};

}  // namespace weft::actors
