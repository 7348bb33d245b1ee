// How much of a node's memory for caches is taken.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

namespace weft::actors {

// Bytes that count against the node's KV cache, for as long as this lives.
class cache_charge {
 public:
  cache_charge() = default;
  cache_charge(std::shared_ptr<std::uint64_t> total, std::uint64_t bytes)
      : total_(std::move(total)), bytes_(bytes) {
    *total_ += bytes_;
  }
  cache_charge(cache_charge&&) noexcept = default;
  cache_charge& operator=(cache_charge&& other) noexcept {
    std::swap(total_, other.total_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~cache_charge() {
    if (total_) *total_ -= bytes_;
  }

  std::uint64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<std::uint64_t> total_;
  std::uint64_t bytes_ = 0;
};

}  // namespace weft::actors
