// Ranges laid end to end and cut into chunks: how the two sides of a pushed fetch agree on where a byte
// belongs.
#pragma once

#include <weft/base/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::fabric {

class chunk_plan {
 public:
  chunk_plan() = default;

  // `chunk_bytes` > 0. Fails with invalid_argument where the sum or the number of chunks overflows.
  static result<chunk_plan> make(std::vector<std::uint64_t> range_lengths, std::uint32_t chunk_bytes);

  std::uint64_t total_bytes() const { return ends_.empty() ? 0 : ends_.back(); }
  std::uint32_t chunk_count() const { return chunk_count_; }

  // `chunk` < chunk_count()
  std::uint64_t chunk_length(std::uint32_t chunk) const {
    const auto begin = std::uint64_t{chunk} * chunk_bytes_;
    return std::min<std::uint64_t>(chunk_bytes_, total_bytes() - begin);
  }

  // Chunks that hold bytes of the range are [first, last); equal for an empty range.
  struct chunk_span {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
  };
  chunk_span chunks_of(std::size_t range) const;

  // Calls visit(range index, offset in the range, bytes) for the pieces of a chunk in order.
  template <class Visit>
  void for_each_piece(std::uint32_t chunk, Visit visit) const {
    auto at = std::uint64_t{chunk} * chunk_bytes_;
    const auto end = at + chunk_length(chunk);
    for (auto range = range_at(at); at < end; ++range) {
      const auto begin_of_range = range == 0 ? 0 : ends_[range - 1];
      const auto bytes = std::min(ends_[range], end) - at;
      if (bytes > 0) visit(range, at - begin_of_range, bytes);
      at += bytes;
    }
  }

 private:
  std::size_t range_at(std::uint64_t position) const {
    return static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), position) - ends_.begin());
  }

  std::vector<std::uint64_t> ends_;  // of each range in the stream
  std::uint32_t chunk_bytes_ = 1;
  std::uint32_t chunk_count_ = 0;
};

}  // namespace weft::fabric
