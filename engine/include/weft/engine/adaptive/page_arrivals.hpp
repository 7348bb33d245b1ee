// Pages that a passive store was asked for, and that come from elsewhere: what `begin`, `arrived` and `wait`
// of such a store are made of. For any threads.
#pragma once

#include <weft/engine/adaptive/passive_store.hpp>

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace weft::engine {

class page_arrivals {
 public:
  // So many pages were asked for; forgets those before, all of which have come.
  void expect(std::size_t pages);
  // A page, by its place among those asked for. owner: keeps the bytes until the next `expect`. Empty bytes:
  // there is no copy.
  void deliver(std::size_t place, page_bytes bytes, std::shared_ptr<const void> owner);

  bool complete();
  // Returns when it is. Valid until the next `expect`.
  std::span<const page_bytes> wait();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<page_bytes> pages_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::size_t missing_ = 0;
};

}  // namespace weft::engine
