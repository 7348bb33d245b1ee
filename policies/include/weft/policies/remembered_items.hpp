// What went not long ago, by identity: first in, first out, bounded by the bytes the items had.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

namespace weft::policies {

class remembered_items {
 public:
  explicit remembered_items(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // `uses` is handed back when it is taken. Identity 0 is not remembered.
  void add(std::uint64_t identity, std::uint64_t bytes, std::uint32_t uses);
  // Forgets it; nothing where it was not known (any more).
  std::optional<std::uint32_t> take(std::uint64_t identity);

  std::size_t size() const { return known_.size(); }

 private:
  struct entry {
    std::uint64_t identity;
    std::uint64_t number;
    std::uint64_t bytes;
  };
  struct fact {
    std::uint64_t number;
    std::uint64_t bytes;
    std::uint32_t uses;
  };

  std::uint64_t limit_bytes_;
  std::uint64_t bytes_ = 0;
  std::uint64_t next_number_ = 0;
  std::deque<entry> order_;  // may hold some that were taken or added again
  std::unordered_map<std::uint64_t, fact> known_;
};

}  // namespace weft::policies
