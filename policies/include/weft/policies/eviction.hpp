// Which of the things in a pool go first when room is needed. Knows slots and their sizes only: who owns the
// bytes, and what is leased or pinned, is the caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace weft::policies {

// A small number that the caller gives to each thing it holds; numbers are used again.
using slot_index = std::uint32_t;

struct eviction_plan {
  std::vector<slot_index> victims;  // in the order in which they should go
  std::uint64_t freed_bytes = 0;    // may be less than what was asked for, when no more may go
};

class eviction_policy {
 public:
  virtual ~eviction_policy() = default;

  // A slot that is not held yet. Throws std::logic_error for one that is.
  virtual void insert(slot_index slot, std::uint64_t bytes) = 0;
  // It was used. Slots that are not held are ignored here and in `erase`.
  virtual void touch(slot_index slot) = 0;
  virtual void erase(slot_index slot) = 0;

  // Chooses until `bytes_needed` are free, and changes nothing: the caller erases what it lets go. `may_go`
  // is asked about each candidate: false for what is pinned or leased.
  virtual eviction_plan victims(std::uint64_t bytes_needed,
                                const std::function<bool(slot_index)>& may_go) const = 0;
};

}  // namespace weft::policies
