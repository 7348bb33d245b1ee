// What the storage machine keeps of each slot.
#pragma once

#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/arena_allocator.hpp>
#include <weft/machines/item_kind.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::machines {

enum class slot_state : std::uint8_t {
  unused,
  reserved,  // promised to a writer
  held,      // committed, found by its key
  dropped,   // no longer found; its bytes stay for those who have leased it
};

// Those that a lower tier has, or all.
enum class victims_among : std::uint8_t { backed, all };

struct slot {
  id128 key;
  std::uint64_t generation = 0;
  std::uint64_t bytes = 0;
  arena_allocator::place at{};
  std::uint32_t tenant = 0;
  std::uint32_t leases = 0;
  std::uint32_t pins = 0;
  std::uint64_t recompute_cost = 0;
  item_kind kind = item_kind::block;
  bool backed = false;
  bool banded = false;                   // has several bands, here or not
  bool replaces = false;                 // whatever is held under its key
  bool trimmed = false;                  // lost some of them here
  std::vector<std::uint64_t> band_ends;  // bytes; of those that are here
  slot_state life = slot_state::unused;
};

struct index_entry {
  id128 key;
  std::uint32_t slot = 0;
};

struct own_hold {
  std::uint32_t slot = 0;
  std::uint32_t count = 0;
};

struct pending {
  std::uint64_t generation;
  time_point until;
};

}  // namespace weft::machines
