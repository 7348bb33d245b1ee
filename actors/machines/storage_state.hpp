// The storage machine's books, and how it makes room.
#pragma once

#include <weft/machines/arena_allocator.hpp>
#include <weft/machines/key_table.hpp>
#include <weft/machines/storage.hpp>
#include <weft/policies/lru.hpp>

#include "storage_slot.hpp"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>

namespace weft::machines {

inline constexpr std::uint32_t no_slot = ~0U;
inline constexpr std::size_t neighbourhoods_to_try = 64;

inline std::uint64_t whole_units(std::uint64_t bytes) {
  constexpr std::uint64_t unit = arena_allocator::unit_bytes;
  return (bytes + unit - 1) / unit * unit;
}

struct storage::state {
  storage_options options;
  arena_allocator arena;
  std::vector<slot> slots;
  std::vector<std::uint32_t> unused_slots;
  key_table<index_entry> index;                               // of what is held
  std::unique_ptr<policies::eviction_policy> eviction;        // knows what is held
  std::unordered_map<std::uint64_t, std::uint32_t> reserved;  // slot by generation
  std::deque<pending> reservation_ends;                       // soonest first; may hold settled ones
  lease_table leases;
  std::unordered_map<std::uint32_t, std::uint64_t> tenant_used;
  std::unordered_map<std::uint32_t, std::uint64_t> quotas;
  std::uint64_t next_generation;
  std::uint64_t busy_bytes = 0;  // held, but leased or pinned
  std::uint64_t held_bytes = 0;  // in whole units
  bool relieving = false;
  std::unordered_map<std::uint64_t, own_hold> own_holds;  // by generation
  storage_stats counts;

  state(const storage_options& o, std::unique_ptr<policies::eviction_policy> e)
      : options(o),
        arena(o.base_offset, o.capacity_bytes),
        eviction(std::move(e)),
        next_generation(o.first_generation) {
    if (!eviction) eviction = std::make_unique<policies::lru>();
  }

  // ---- slots

  std::uint32_t new_slot() {
    if (unused_slots.empty()) {
      slots.emplace_back();
      return static_cast<std::uint32_t>(slots.size() - 1);
    }
    const std::uint32_t s = unused_slots.back();
    unused_slots.pop_back();
    return s;
  }

  std::uint64_t place_bytes(std::uint32_t s) const { return arena.size_bytes(slots[s].at); }

  void free_slot(std::uint32_t s) {
    arena.free(slots[s].at);
    slots[s] = slot{};
    unused_slots.push_back(s);
  }

  std::uint32_t slot_of(const id128& key) const {
    const index_entry* e = key ? index.find(key) : nullptr;
    return e == nullptr ? no_slot : e->slot;
  }

  // A block that lost bands is not all of it.
  bool has_all(const id128& key, std::uint64_t bytes) const {
    const std::uint32_t s = slot_of(key);
    return s != no_slot && (!slots[s].banded || slots[s].bytes >= bytes);
  }

  static bool busy(const slot& it) { return it.leases != 0 || it.pins != 0; }

  bool may_go(std::uint32_t s) const { return slots[s].life == slot_state::held && !busy(slots[s]); }

  // Changes leases or pins of a slot, keeping count of the bytes that may not be evicted for them.
  template <class Change>
  void change_uses(std::uint32_t s, Change change) {
    slot& it = slots[s];
    const bool was_busy = busy(it);
    change(it);
    if (it.life != slot_state::held || was_busy == busy(it)) return;
    busy_bytes += was_busy ? -place_bytes(s) : place_bytes(s);
  }

  // In the place of what was held of it before, which stays for those who have leased it.
  void start_holding(std::uint32_t s) {
    slot& it = slots[s];
    if (const std::uint32_t less = slot_of(it.key); less != no_slot) {
      it.pins = slots[less].pins;
      it.backed = slots[less].backed;
      stop_holding(less);
    }
    it.life = slot_state::held;
    index.find_or_insert(it.key).slot = s;
    std::vector<std::uint64_t> ends;  // as places are taken
    for (const std::uint64_t end : it.band_ends)
      ends.push_back(whole_units(end));
    eviction->insert(s, {.bytes = place_bytes(s),
                         .identity = it.key.low,
                         .recompute_cost = it.recompute_cost,
                         .band_ends = ends});
    it.banded = !ends.empty();
    counts.banded_items += it.banded ? 1 : 0;
    counts.bands_held += ends.size();
    held_bytes += place_bytes(s);
    if (it.pins != 0) {
      busy_bytes += place_bytes(s);
      ++counts.pinned_items;
    }
    ++counts.committed_items;
    counts.committed_bytes += it.bytes;
  }

  void stop_holding(std::uint32_t s) {
    slot& it = slots[s];
    index.erase(it.key);
    eviction->erase(s);  // nothing where it was evicted
    it.life = slot_state::dropped;
    held_bytes -= place_bytes(s);
    if (busy(it)) busy_bytes -= place_bytes(s);
    charge(it.tenant, -static_cast<std::int64_t>(place_bytes(s)));
    --counts.committed_items;
    counts.committed_bytes -= it.bytes;
    if (it.pins != 0) --counts.pinned_items;
    counts.banded_items -= it.banded ? 1 : 0;
    counts.bands_held -= it.banded ? std::max<std::size_t>(1, it.band_ends.size()) : 0;
    if (it.leases == 0) free_slot(s);
  }

  void charge(std::uint32_t tenant, std::int64_t bytes) {
    std::uint64_t& used = tenant_used[tenant];
    used += static_cast<std::uint64_t>(bytes);
    if (used == 0) tenant_used.erase(tenant);
  }

  bool over_quota(std::uint32_t tenant, std::uint64_t bytes) const {
    const auto quota = quotas.find(tenant);
    if (quota == quotas.end()) return false;
    const auto used = tenant_used.find(tenant);
    const std::uint64_t present = used == tenant_used.end() ? 0 : used->second;
    return present + bytes > quota->second;
  }

  // ---- making room

  void evict(std::uint32_t s, std::vector<announced>& evicted) {
    if (slots[s].backed) {
      ++counts.demotions;
    } else {
      evicted.push_back({slots[s].key, slots[s].kind});
    }
    ++counts.evictions;
    eviction->evict(s);
    stop_holding(s);
  }

  bool may_trim(std::uint32_t s, victims_among among) const {
    return may_go(s) && slots[s].band_ends.size() > 1 && (among == victims_among::all || slots[s].backed);
  }

  enum class what_is_left : bool { stays, moves };

  // Into a hole, where it moves and one is large enough: then the whole place is free.
  trimmed_block trim(const policies::band_trim& cut, what_is_left rest) {
    slot& it = slots[cut.slot];
    const std::uint64_t before = place_bytes(cut.slot);
    const std::uint64_t front = it.band_ends[cut.keep_bands - 1];
    const std::uint64_t freed = before - whole_units(front);
    trimmed_block what{.key = it.key,
                       .from = arena.offset(it.at),
                       .offset = arena.offset(it.at),
                       .bytes = front,
                       .generation = 0};
    it.generation = what.generation = next_generation++;
    const bool moves = freed != 0 && rest == what_is_left::moves;
    if (const auto hole = moves ? arena.allocate(front, cut.slot) : std::nullopt) {
      arena.free(it.at);
      it.at = *hole;
      what.offset = arena.offset(it.at);
    } else if (freed != 0) {
      arena.shrink(it.at, front);
    }
    counts.bands_held -= it.band_ends.size() - cut.keep_bands;
    counts.committed_bytes -= it.bytes - front;
    counts.trimmed_bytes += it.bytes - front;
    ++counts.trims;
    it.bytes = front;
    it.band_ends.resize(cut.keep_bands);
    it.trimmed = true;
    held_bytes -= freed;
    charge(it.tenant, -static_cast<std::int64_t>(freed));
    eviction->trim(cut.slot, cut.keep_bands);
    return what;
  }

  // The last bands of the coldest blocks that have any to lose, further and further from the coldest.
  std::vector<policies::band_trim> next_trims(std::uint64_t bytes, victims_among among) const {
    if (counts.bands_held == counts.banded_items) return {};
    for (std::uint64_t reach = 4 * bytes;; reach *= 4) {
      auto plan = eviction->trims(bytes, reach, [&](std::uint32_t s) { return may_trim(s, among); });
      if (!plan.trims.empty() || reach >= held_bytes) return std::move(plan.trims);
    }
  }

  std::optional<arena_allocator::place> trim_for(std::uint64_t bytes, std::uint32_t owner,
                                                 victims_among among, std::vector<trimmed_block>& trimmed) {
    const std::uint64_t needed = whole_units(bytes);
    for (auto cuts = next_trims(needed, among); !cuts.empty(); cuts = next_trims(needed, among))
      for (const policies::band_trim& cut : cuts) {
        trimmed.push_back(trim(cut, what_is_left::moves));
        if (auto at = arena.allocate(bytes, owner)) return at;
      }
    return std::nullopt;
  }

  std::optional<arena_allocator::place> make_room(std::uint64_t bytes, std::uint32_t owner,
                                                  std::vector<announced>& evicted,
                                                  std::vector<trimmed_block>& trimmed) {
    if (auto at = arena.allocate(bytes, owner)) return at;
    const std::uint64_t needed = whole_units(bytes);
    if (arena.free_bytes() + held_bytes - busy_bytes < needed) return std::nullopt;
    for (const victims_among among : {victims_among::backed, victims_among::all}) {
      if (among == victims_among::backed && !options.lower_tier) continue;
      if (auto at = trim_for(bytes, owner, among, trimmed)) return at;
      // Twice what is needed, in the hope that some of it lies together.
      for (const std::uint32_t victim : coldest(2 * needed, ~std::size_t{0}, among)) {
        evict(victim, evicted);
        if (auto at = arena.allocate(bytes, owner)) return at;
      }
    }
    return clear_neighbourhood(needed, owner, evicted);
  }

  std::vector<std::uint32_t> coldest(std::uint64_t bytes, std::size_t count,
                                     victims_among among = victims_among::all) const {
    std::size_t seen = 0;
    return eviction
        ->victims(bytes,
                  [&](std::uint32_t s) {
                    return may_go(s) && (among == victims_among::all || slots[s].backed) && seen++ < count;
                  })
        .victims;
  }

  void relieve(std::size_t limit, relief& done) {
    const std::uint64_t used = arena.used_bytes();
    if (options.high_watermark_bytes == 0) return;
    if (!relieving && used > options.high_watermark_bytes) {
      relieving = true;
      ++counts.relief_rounds;
    }
    if (!relieving) return;
    if (used > options.low_watermark_bytes) {
      const auto among = options.lower_tier ? victims_among::backed : victims_among::all;
      trim_to(options.low_watermark_bytes, among, done.trimmed);
      if (arena.used_bytes() <= options.low_watermark_bytes) {
        relieving = false;
        return;
      }
      for (const std::uint32_t victim :
           coldest(arena.used_bytes() - options.low_watermark_bytes, limit, among))
        evict(victim, done.evicted);
    }
    relieving = arena.used_bytes() > options.low_watermark_bytes;
  }

  // In place: nothing moves.
  void trim_to(std::uint64_t watermark_bytes, victims_among among, std::vector<trimmed_block>& trimmed) {
    while (arena.used_bytes() > watermark_bytes) {
      const auto cuts = next_trims(arena.used_bytes() - watermark_bytes, among);
      if (cuts.empty()) return;
      for (const policies::band_trim& cut : cuts)
        trimmed.push_back(trim(cut, what_is_left::stays));
    }
  }

  // Room enough in sum, but in pieces: evicts what lies around a cold slot until one hole is large enough.
  std::optional<arena_allocator::place> clear_neighbourhood(std::uint64_t needed, std::uint32_t owner,
                                                            std::vector<announced>& evicted) {
    for (const std::uint32_t centre : coldest(neighbourhoods_to_try * needed, neighbourhoods_to_try)) {
      const std::vector<std::uint32_t> victims = neighbourhood(centre, needed);
      if (victims.empty()) continue;
      for (const std::uint32_t victim : victims)
        evict(victim, evicted);
      return arena.allocate(needed, owner);
    }
    return std::nullopt;
  }

  // Evictable slots around `centre` that with the holes between them give `needed` bytes in one piece.
  std::vector<std::uint32_t> neighbourhood(std::uint32_t centre, std::uint64_t needed) const {
    std::vector<std::uint32_t> victims{centre};
    std::uint64_t bytes = place_bytes(centre);
    const auto extend = [&](arena_allocator::neighbour n, auto&& next) {
      for (; bytes < needed && n.exists; n = next(n.at)) {
        if (n.taken && !may_go(n.owner)) return;
        if (n.taken) victims.push_back(n.owner);
        bytes += n.bytes;
      }
    };
    extend(arena.behind(slots[centre].at), [&](auto at) { return arena.behind(at); });
    extend(arena.before(slots[centre].at), [&](auto at) { return arena.before(at); });
    if (bytes < needed) victims.clear();
    return victims;
  }

  // ---- reservations

  std::uint32_t take_reserved(std::uint64_t generation) {
    const auto at = reserved.find(generation);
    if (at == reserved.end()) return no_slot;
    const std::uint32_t s = at->second;
    reserved.erase(at);
    return s;
  }

  bool give_up_reservation(std::uint64_t generation) {
    const std::uint32_t s = take_reserved(generation);
    if (s == no_slot) return false;
    charge(slots[s].tenant, -static_cast<std::int64_t>(place_bytes(s)));
    free_slot(s);
    return true;
  }

  void expire_reservations(time_point now) {
    while (!reservation_ends.empty() && reservation_ends.front().until <= now) {
      if (give_up_reservation(reservation_ends.front().generation)) ++counts.expired_reservations;
      reservation_ends.pop_front();
    }
  }

  void forget_settled_reservations() {
    while (!reservation_ends.empty() && !reserved.contains(reservation_ends.front().generation)) {
      reservation_ends.pop_front();
    }
  }

  // ---- leases

  void unlease(const std::vector<std::uint32_t>& ended) {
    for (const std::uint32_t s : ended) {
      change_uses(s, [](slot& it) { --it.leases; });
      if (slots[s].life == slot_state::dropped && slots[s].leases == 0) free_slot(s);
    }
  }

  leased_slot describe(std::uint32_t s) const {
    const slot& it = slots[s];
    return {.outcome = errc::ok,
            .kind = it.kind,
            .offset = arena.offset(it.at),
            .bytes = it.bytes,
            .generation = it.generation,
            .pinned = it.pins != 0,
            .tenant = it.tenant};
  }

  void expire(time_point now) {
    expire_reservations(now);
    unlease(leases.expire(now));
  }
};

}  // namespace weft::machines
