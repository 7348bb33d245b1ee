// The books of a file tier: which block is where on file, what is to be written next, what a failure means,
// what a restart believes. No I/O: it gives orders (read, write, sync) and is told how they ended.
//
// A slot lives through: writing its bytes -> writing its header -> waiting for a sync -> on file -> leaving
// (evicted or dropped: an empty header is written) or retired (the device failed it). A slot that is being
// read keeps its place until the reader is done.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/directory.hpp>
#include <weft/machines/item_kind.hpp>
#include <weft/policies/eviction.hpp>
#include <weft/tier/slot_header.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace weft::tier {

using slot_number = std::uint32_t;

struct file_tier_options {
  std::uint64_t capacity_bytes = 0;  // of the data area; whole sectors are used
  std::uint64_t queue_bytes = 0;     // of what waits to be written; beyond that writers should wait
  std::uint32_t depth = 32;          // writes in flight
  duration full_pause = std::chrono::seconds(10);  // after the device was full
  policies::eviction_kind eviction = policies::eviction_kind::lru;
};

struct filed_item {
  id128 key;
  machines::item_kind kind = machines::item_kind::block;
  std::uint64_t bytes = 0;
  std::uint32_t tenant = 0;
  std::uint64_t recompute_cost = 0;
};

enum class enqueue_outcome : std::uint8_t {
  queued,
  known,    // on file, being written or queued already
  refused,  // zero key, no bytes, or larger than the tier
};

struct write_order {
  slot_number slot = 0;
  id128 key;
  std::uint64_t offset = 0;  // in the data area
  std::uint64_t bytes = 0;   // whole sectors
};

struct header_order {
  slot_number slot = 0;
  std::uint64_t offset = 0;  // in the header area
  slot_header content;
};

struct read_order {
  slot_number slot = 0;
  machines::item_kind kind = machines::item_kind::block;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // of the block; to be read are whole sectors
  std::uint32_t tenant = 0;
  bool pinned = false;
};

// What had to go for a write, with the headers to be written so that a restart does not find it.
struct evicted_items {
  std::vector<id128> keys;
  std::vector<header_order> headers;
};

// What a finished operation leads to.
struct header_outcome {
  bool wants_sync = false;           // the slot now waits for one
  std::optional<header_order> next;  // to be written
};

struct read_end {
  bool on_file = false;              // still
  std::optional<header_order> next;  // to be written
};

struct sync_outcome {
  std::vector<machines::announced> on_file;
  std::vector<id128> lost;  // were to be on file and are not
};

struct file_tier_stats {
  std::uint64_t capacity_bytes = 0;
  std::uint64_t used_bytes = 0;  // places taken, retired ones included
  std::uint64_t items = 0;       // on file
  std::uint64_t queued_items = 0;
  std::uint64_t queued_bytes = 0;  // waiting or being written
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  std::uint64_t evictions = 0;
  std::uint64_t corrupt = 0;  // headers at recovery and blocks at reading
  std::uint64_t failed = 0;   // operations that the device refused
  std::uint64_t retired_bytes = 0;
  std::uint64_t full_stops = 0;
  std::uint64_t recovered = 0;
};

class file_tier {
 public:
  file_tier(file_tier_options options, const id128& tier_id);
  ~file_tier();
  file_tier(file_tier&&) noexcept;
  file_tier& operator=(file_tier&&) noexcept;

  // Recovery comes first: every sector of the header area but the first, in any order, then the end.
  void recover(std::uint64_t slot, std::span<const std::byte> sector);
  void end_recovery();

  // -- writing --

  enqueue_outcome enqueue(const filed_item& item);

  // The next write, where there is one and the depth allows it. `evicted`: no longer on file for it. What
  // finds no room though everything that may go has gone is taken off the queue and counted as failed.
  std::optional<write_order> start_write(time_point now, evicted_items& evicted);

  // The order's bytes are not there any more: nothing was written.
  void abandon(slot_number slot);

  // False while more than `queue_bytes` waits; true when the device is full, as waiting would not help.
  bool takes_more(time_point now) const;

  // How the order ended. The header to write next; none where the block is given up.
  std::optional<header_order> written(slot_number slot, errc outcome, time_point now);

  header_outcome header_written(slot_number slot, errc outcome, time_point now);

  // True where a sync is worth it and none is under way: it has begun.
  bool start_sync();
  sync_outcome synced(errc outcome);

  // -- reading --

  // What is on file under that key; stays in its place until `end_read`. Counts as a use.
  std::optional<read_order> begin_read(const id128& key);
  // The same for a look at it that is no use. Ends with `end_read`, too.
  std::optional<read_order> begin_check(const id128& key);
  // `ok`; `corrupt`: it did not prove itself; `io`: the device failed.
  read_end end_read(slot_number slot, errc outcome);

  bool holds(const id128& key) const;               // on file
  std::uint32_t tenant_of(const id128& key) const;  // of what is on file; else 0
  bool knows(const id128& key) const;               // or on its way there
  // Bytes of what is on file under that key; 0: nothing.
  std::uint64_t bytes_of(const id128& key) const;

  // From now on not on file. Headers to write, so that a restart does not find it; then `header_written`.
  std::vector<header_order> drop(std::span<const id128> keys, std::vector<machines::announced>& dropped);

  // What is pinned is not evicted. False where the key is not on file.
  bool set_pinned(const id128& key, bool pinned);
  bool pinned(const id128& key) const;

  // What is on file, in pages: `cursor` starts at 0 and is moved on; at the end nothing comes.
  std::vector<machines::announced> held(std::uint64_t& cursor, std::size_t limit) const;

  file_tier_stats stats() const;

  // Checks its books in full; for tests. An empty text where they add up.
  std::string inconsistency() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::tier
