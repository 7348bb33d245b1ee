// Where rows lie that are not in the decode cache: pages of some rows of one head, written once.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace weft::engine {

using page_bytes = std::span<const std::byte>;

class passive_store {
 public:
  virtual ~passive_store() = default;

  // Under a number that the session uses once. An error: the page is not stored, nothing else happened.
  virtual result<void> put(std::uint64_t page, page_bytes bytes) = 0;
  // Asks for pages; what the last call asked for has been waited for, and may be gone. May return before they
  // are there.
  virtual void begin(std::span<const std::uint64_t> pages) = 0;
  // Whether all that was asked for is there, or cannot be had.
  virtual bool arrived() = 0;
  // Returns when it is: the pages in the order in which they were asked for, empty where there is no copy.
  // Valid until the next `begin`.
  virtual std::span<const page_bytes> wait() = 0;
};

// In this process's memory.
class local_passive_store final : public passive_store {
 public:
  result<void> put(std::uint64_t page, page_bytes bytes) override;
  void begin(std::span<const std::uint64_t> pages) override;
  bool arrived() override { return true; }
  std::span<const page_bytes> wait() override { return asked_; }

  std::size_t stored_bytes() const { return stored_bytes_; }

 private:
  std::unordered_map<std::uint64_t, std::vector<std::byte>> pages_;
  std::vector<page_bytes> asked_;
  std::size_t stored_bytes_ = 0;
};

}  // namespace weft::engine
