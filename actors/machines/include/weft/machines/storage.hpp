// The slots of one storage arena: the only authority on what a storage node holds and where.
//
// A slot lives through: reserve -> (bytes arrive, the node verifies them) -> commit -> leases -> eviction or
// drop -> free. Every use of a place gets a new generation, so that a stale reader finds out. A slot that is
// leased keeps its bytes until the last lease ended, whatever happens to its key.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/directory.hpp>
#include <weft/machines/item_kind.hpp>
#include <weft/machines/leases.hpp>
#include <weft/machines/node_ref.hpp>
#include <weft/policies/eviction.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace weft::machines {

struct storage_options {
  std::uint64_t base_offset = 0;  // in the node's arena; multiples of 4 KiB
  std::uint64_t capacity_bytes = 0;
  // Longer than any transfer into a slot may take: what expires is given to others.
  duration reservation_timeout = std::chrono::seconds(60);
  duration longest_lease = std::chrono::seconds(30);
  std::uint64_t first_generation = 1;
  // Of use: above the high one, `relieve` evicts down to the low one. High 0: never.
  std::uint64_t high_watermark_bytes = 0;
  std::uint64_t low_watermark_bytes = 0;
  // There is a slower tier that keeps copies: what it has goes first, and is not lost then.
  bool lower_tier = false;
};

struct reserve_request {
  id128 key;  // not zero
  item_kind kind = item_kind::block;
  std::uint64_t bytes = 0;
  std::uint32_t tenant = 0;  // whose quota it counts against
  // What losing it costs, in one unit for all, for eviction policies that weigh it. 0: as many as its bytes.
  std::uint64_t recompute_cost = 0;
  bool expires = true;    // false: whoever reserved is sure to commit or abort
  bool may_evict = true;  // false: free room only
  bool replace = false;   // what is held under that key gives way to it when it is committed
};

enum class reserve_outcome : std::uint8_t {
  granted,
  already_have,  // all of it is committed here: nothing to transfer
  out_of_space,  // also after evicting whatever may be evicted
  over_quota,
  refused,  // zero key, zero bytes or larger than the arena
};

// A block lost its last bands, and what is left has a new generation. It is to be copied from `from` to
// `offset`, where these differ, before anything else is done with the arena.
struct trimmed_block {
  id128 key;
  std::uint64_t from = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t generation = 0;
};

struct reservation {
  reserve_outcome outcome = reserve_outcome::refused;
  std::uint64_t offset = 0;
  std::uint64_t generation = 0;
  // No longer held, nor by a lower tier: withdraw them. Also where nothing was granted.
  std::vector<announced> evicted;
  std::vector<trimmed_block> trimmed;  // in this order, also where nothing was granted
};

struct relief {
  std::vector<announced> evicted;
  std::vector<trimmed_block> trimmed;
};

enum class commit_outcome : std::uint8_t {
  committed,     // now held: announce it
  already_have,  // another writer was first with that key; this slot is free again
  unknown,       // no such reservation: it expired, was aborted or dropped
};

struct leased_slot {
  errc outcome = errc::not_found;  // ok or not_found
  item_kind kind = item_kind::block;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t generation = 0;
  bool pinned = false;
  std::uint32_t tenant = 0;
};

struct lease_grant {
  lease_id id{};                   // of all of them together; 0 where no key is held
  time_point until{};              // shorter than asked for where the asked exceeds the longest
  std::vector<leased_slot> slots;  // by key of the request
};

struct storage_stats {
  std::uint64_t capacity_bytes = 0;
  std::uint64_t used_bytes = 0;  // committed, reserved, and dropped but still leased
  std::uint64_t free_bytes = 0;
  std::uint64_t largest_hole_bytes = 0;
  std::uint64_t committed_items = 0;
  std::uint64_t committed_bytes = 0;
  std::uint64_t reserved_items = 0;
  std::uint64_t pinned_items = 0;
  std::uint64_t leases = 0;
  std::uint64_t hits = 0;    // of leases
  std::uint64_t misses = 0;  // of leases
  std::uint64_t evictions = 0;
  std::uint64_t expired_reservations = 0;
  std::uint64_t demotions = 0;      // evictions of what a lower tier has
  std::uint64_t over_quota = 0;     // reservations refused for a quota
  std::uint64_t relief_rounds = 0;  // the high watermark was passed
  std::uint64_t trims = 0;          // a block lost some of its bands
  std::uint64_t trimmed_bytes = 0;
  std::uint64_t banded_items = 0;  // held ones that came in several bands
  std::uint64_t bands_held = 0;    // of those
};

class storage {
 public:
  // Least recently used goes first where no other policy is given.
  explicit storage(storage_options options, std::unique_ptr<policies::eviction_policy> eviction = nullptr);
  ~storage();
  storage(storage&&) noexcept;
  storage& operator=(storage&&) noexcept;

  // Trims and evicts in the policy's order where needed, never what is leased, pinned or reserved; no item
  // goes while another has bands to lose (of what a lower tier has, first bands, then the rest, before
  // anything is lost). Two writers may reserve the same key; the first commit wins, unless the second brings
  // bands that the held one has lost.
  reservation reserve(const reserve_request& request, time_point now);

  // The bytes of that reservation are here and verified. Not a moment before. `band_ends`: of a block of
  // several bands, bytes of the first 1, 2, ... that came, the last of them all; else empty.
  commit_outcome commit(std::uint64_t generation, time_point now,
                        std::span<const std::uint64_t> band_ends = {});
  bool abort(std::uint64_t generation);

  // Does the slot still belong to that reservation? Ask before touching its bytes after a wait.
  bool is_reserved(std::uint64_t generation) const;

  // Counts as a use of the held keys. A lease of nothing is not a lease.
  lease_grant lease(std::span<const id128> keys, duration length, time_point now);
  bool release(lease_id id);
  // Held ones among them were used without a lease.
  void touch(std::span<const id128> keys);

  // From now on not held. The bytes stay until their last lease ended. Drops pinned ones, too. The dropped
  // ones among `keys`: withdraw them.
  std::vector<announced> drop(std::span<const id128> keys);

  // Pins count. False where the key is not held.
  bool pin(const id128& key);
  bool unpin(const id128& key);

  bool holds(const id128& key) const;
  // It is held, and was trimmed here.
  bool lost_bands(const id128& key) const;
  std::optional<leased_slot> find(const id128& key) const;  // not a use, not a lease

  // Committed and reserved bytes of a tenant may not exceed it. No quota: no limit.
  void set_quota(std::uint32_t tenant, std::optional<std::uint64_t> bytes);
  std::uint64_t tenant_bytes(std::uint32_t tenant) const;
  std::uint32_t tenant_of(const id128& key) const;  // of a held key; else 0

  // Keeps room free ahead of need: once more than the high watermark is used, trims in place and evicts at
  // most `limit` items a call until no more than the low one is.
  relief relieve(std::size_t limit);

  // A lower tier has a copy of it, or has one no more.
  void set_backed(const id128& key, bool backed);

  // Keeps bytes in place without a lease, for the node's own work on them, until as many `let_go` of that
  // generation as there were holds.
  std::optional<leased_slot> hold(const id128& key);
  void let_go(std::uint64_t generation);

  // Ends leases and reservations whose time is over.
  void tick(time_point now);
  std::optional<time_point> next_deadline();

  // What is committed, in pages: `cursor` starts at 0 and is moved on; at the end nothing comes. What is
  // committed or dropped meanwhile may or may not be seen.
  std::vector<announced> held(std::uint64_t& cursor, std::size_t limit) const;

  storage_stats stats() const;

  // Checks its books in full; for tests. An empty text where they add up.
  std::string inconsistency() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::machines
