// Which of the things in a pool go first when room is needed. Knows slots, their sizes and what they are
// worth: who owns the bytes, and what is leased or pinned, is the caller's. No clocks: what happened is told
// by calls.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace weft::policies {

// A small number that the caller gives to each thing it holds; numbers are used again.
using slot_index = std::uint32_t;

struct item_facts {
  std::uint64_t bytes = 0;
  // The same whenever the same content comes back: what is remembered of things that went. 0: nothing is.
  std::uint64_t identity = 0;
  // What losing it costs, in any unit that is the same for all items. 0: as many as it has bytes.
  std::uint64_t recompute_cost = 0;
  // Bytes that the first 1, 2, ... bands take, ascending, the last of them `bytes`. Empty: one band.
  std::span<const std::uint64_t> band_ends{};
};

// Bands above the first `keep_bands` go.
struct band_trim {
  slot_index slot = 0;
  std::uint32_t keep_bands = 0;

  friend bool operator==(const band_trim&, const band_trim&) = default;
};

struct eviction_plan {
  std::vector<band_trim> trims;     // at most one for each slot, and none of a victim
  std::vector<slot_index> victims;  // in the order in which they should go
  std::uint64_t freed_bytes = 0;    // may be less than what was asked for, when no more may go
};

// Asked about each candidate: false for what is pinned or leased.
using may_go = std::function<bool(slot_index)>;

class eviction_policy {
 public:
  virtual ~eviction_policy() = default;

  // A slot that is not held yet. Throws std::logic_error for one that is.
  void insert(slot_index slot, const item_facts& facts);
  void insert(slot_index slot, std::uint64_t bytes) { insert(slot, item_facts{.bytes = bytes}); }

  // It was used. Slots that are not held are ignored here and in what follows.
  virtual void touch(slot_index slot) = 0;
  // It is gone: dropped by its owner, or evicted because the policy said so, which some policies remember.
  void erase(slot_index slot);
  void evict(slot_index slot);
  // Its bands above the first `keep_bands` (at least 1) are gone.
  void trim(slot_index slot, std::uint32_t keep_bands);

  // Chooses whole items until `bytes_needed` are free. All stay held: the caller evicts what it lets go.
  virtual eviction_plan victims(std::uint64_t bytes_needed, const may_go& allowed) = 0;

  // Bands alone: of the coldest items, which together have `reach_bytes`, the last bands go until
  // `bytes_needed` are free, the coldest item's first, but never an item's first band.
  eviction_plan trims(std::uint64_t bytes_needed, std::uint64_t reach_bytes, const may_go& allowed);

  // Bands before items: of the coldest items, which together have four times the bytes that are needed, the
  // last bands go, the coldest item's first, but never an item's first band; what then is missing is made up
  // with whole items.
  eviction_plan trims_and_victims(std::uint64_t bytes_needed, const may_go& allowed);

  virtual bool holds(slot_index slot) const = 0;
  virtual std::size_t size() const = 0;
  virtual std::uint64_t bytes() const = 0;  // of all that is held

 private:
  virtual void admit(slot_index slot, const item_facts& facts) = 0;
  virtual void remove(slot_index slot, bool evicted) = 0;
  virtual void resize(slot_index slot, std::uint64_t bytes) = 0;
  virtual std::uint64_t bytes_of(slot_index slot) const = 0;  // of a held slot
  eviction_plan trims_of(const eviction_plan& coldest, std::uint64_t bytes_needed) const;

  std::unordered_map<slot_index, std::vector<std::uint64_t>> band_ends_;  // of those with several bands
};

enum class eviction_kind : std::uint8_t { lru, s3_fifo, cost };

std::optional<eviction_kind> eviction_from_name(std::string_view name);
std::string_view name_of(eviction_kind kind);

// `capacity_bytes`: of the pool that it works for.
std::unique_ptr<eviction_policy> make_eviction(eviction_kind kind, std::uint64_t capacity_bytes);

}  // namespace weft::policies
