#include <weft/machines/arena_allocator.hpp>
#include <weft/machines/key_table.hpp>
#include <weft/tier/file_tier.hpp>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <queue>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace weft::tier {
namespace {

using machines::arena_allocator;

enum class slot_life : std::uint8_t {
  unused,
  writing,   // its bytes
  heading,   // its header
  unsynced,  // written, not yet certain
  syncing,
  on_file,
  leaving,  // no longer on file: until its empty header is written and its readers are done
  retired,  // the device failed it
};

struct slot {
  filed_item item;
  arena_allocator::place at{};
  std::uint64_t sequence = 0;
  std::uint32_t readers = 0;
  slot_life life = slot_life::unused;
  bool pinned = false;
  bool dropped = false;         // while it was being written
  bool header_pending = false;  // the empty one
  bool placed = false;          // `at` is taken
};

struct index_entry {
  id128 key;
  slot_number slot = 0;
};

constexpr slot_number no_slot = ~slot_number{0};
// How much is evicted for one item before it is given up, in multiples of its size.
constexpr std::uint64_t eviction_reach = 64;
// A sync is worth it for so much, for half the queue, or when nothing else is to do.
constexpr std::uint64_t most_unsynced_bytes = std::uint64_t{64} << 20;

std::uint64_t whole_sectors(std::uint64_t bytes) {
  return (bytes + sector_bytes - 1) / sector_bytes * sector_bytes;
}

}  // namespace

struct file_tier::state {
  file_tier_options options;
  id128 tier;
  arena_allocator room;
  std::vector<slot> slots;
  std::priority_queue<slot_number, std::vector<slot_number>, std::greater<>> unused;  // lowest first
  machines::key_table<index_entry> index;                      // being written or on file
  std::unique_ptr<policies::eviction_policy> eviction;         // knows what is on file
  std::deque<filed_item> queue;                                // may hold some that were dropped
  std::unordered_map<id128, std::uint64_t> queued;             // bytes by key
  std::vector<std::pair<slot_number, std::uint64_t>> waiting;  // for the next sync, with their sequence
  std::vector<std::pair<slot_number, std::uint64_t>> in_sync;
  std::uint64_t waiting_bytes = 0;
  bool sync_running = false;
  std::uint32_t in_flight = 0;
  std::uint64_t next_sequence = 1;
  time_point full_until{};
  std::vector<slot_header> found;  // during recovery
  file_tier_stats counts;

  state(const file_tier_options& o, const id128& id)
      : options(o),
        tier(id),
        room(0, o.capacity_bytes / sector_bytes * sector_bytes),
        eviction(policies::make_eviction(o.eviction, o.capacity_bytes)) {}

  // ---- slots

  slot_number new_slot() {
    if (unused.empty()) {
      slots.emplace_back();
      return static_cast<slot_number>(slots.size() - 1);
    }
    const slot_number s = unused.top();
    unused.pop();
    return s;
  }

  void free_place(slot_number s) {
    if (std::exchange(slots[s].placed, false)) room.free(slots[s].at);
  }

  void free_slot(slot_number s) {
    free_place(s);
    slots[s] = slot{};
    unused.push(s);
  }

  slot_number slot_of(const id128& key) const {
    const index_entry* e = key ? index.find(key) : nullptr;
    return e == nullptr ? no_slot : e->slot;
  }

  slot_number on_file(const id128& key) const {
    const slot_number s = slot_of(key);
    return s != no_slot && slots[s].life == slot_life::on_file ? s : no_slot;
  }

  std::uint64_t place_bytes(slot_number s) const { return room.size_bytes(slots[s].at); }

  void put_on_file(slot_number s) {
    slot& it = slots[s];
    it.life = slot_life::on_file;
    eviction->insert(
        s, {.bytes = place_bytes(s), .identity = it.item.key.low, .recompute_cost = it.item.recompute_cost});
    ++counts.items;
  }

  // Not found by its key any more.
  void forget(slot_number s, bool evicted = false) {
    slot& it = slots[s];
    // One that was dropped while it was being written may have a successor under its key.
    if (slot_of(it.item.key) == s) index.erase(it.item.key);
    if (it.life != slot_life::on_file) return;
    evicted ? eviction->evict(s) : eviction->erase(s);
    it.life = slot_life::leaving;
    --counts.items;
  }

  void free_when_done(slot_number s) {
    if (slots[s].life == slot_life::leaving && slots[s].readers == 0 && !slots[s].header_pending)
      free_slot(s);
  }

  void retire(slot_number s) {
    forget(s);
    slots[s].life = slot_life::retired;
    counts.retired_bytes += place_bytes(s);
  }

  // Gone, by the owner's will or because it was rotten: a restart is not to find it.
  header_order empty(slot_number s) {
    forget(s);
    slots[s].life = slot_life::leaving;
    slots[s].header_pending = true;
    slots[s].sequence = next_sequence++;
    return {.slot = s,
            .offset = header_offset(s),
            .content = {.empty = true, .slot = s, .tier = tier, .key = {}, .sequence = slots[s].sequence}};
  }

  void end_flight(slot_number s) {
    --in_flight;
    counts.queued_bytes -= slots[s].item.bytes;
  }

  void give_up_write(slot_number s) {
    forget(s);
    free_slot(s);
  }

  // ---- making room

  std::optional<arena_allocator::place> make_room(std::uint64_t bytes, slot_number owner,
                                                  evicted_items& evicted) {
    const auto may_go = [&](slot_number s) { return slots[s].readers == 0 && !slots[s].pinned; };
    std::uint64_t gone = 0;
    while (true) {
      if (auto at = room.allocate(bytes, owner)) return at;
      if (gone >= eviction_reach * whole_sectors(bytes)) return std::nullopt;
      const auto plan = eviction->victims(whole_sectors(bytes), may_go);
      if (plan.victims.empty()) return std::nullopt;
      for (const slot_number victim : plan.victims) {
        evicted.keys.push_back(slots[victim].item.key);
        gone += place_bytes(victim);
        ++counts.evictions;
        forget(victim, true);
        evicted.headers.push_back(empty(victim));
        free_place(victim);  // its old header will be older than that of what comes there
      }
    }
  }

  void stop_for(time_point now) {
    full_until = now + options.full_pause;
    ++counts.full_stops;
  }

  // ---- recovery

  // The newest first: what an older one says about the same key or place is no longer so.
  void settle_found() {
    std::ranges::sort(found, std::greater{}, &slot_header::sequence);
    std::unordered_set<id128> keys;
    std::map<std::uint64_t, std::uint64_t> taken;  // end by start
    std::erase_if(found, [&](const slot_header& h) {
      const std::uint64_t end = h.place + whole_sectors(h.bytes);
      if (end > room.capacity_bytes() || keys.contains(h.key)) return true;
      const auto behind = taken.lower_bound(h.place);
      if (behind != taken.end() && behind->first < end) return true;
      if (behind != taken.begin() && std::prev(behind)->second > h.place) return true;
      keys.insert(h.key);
      taken.emplace(h.place, end);
      return false;
    });
  }

  void adopt_found() {
    std::ranges::sort(found, {}, &slot_header::place);
    std::vector<arena_allocator::extent> extents;
    extents.reserve(found.size());
    for (const slot_header& h : found)
      extents.push_back({h.place, h.bytes, static_cast<std::uint32_t>(h.slot)});
    const auto places = room.restore(extents);
    for (std::size_t i = 0; i < found.size(); ++i) {
      const slot_header& h = found[i];
      slot& it = slots[h.slot];
      it.item = {.key = h.key, .kind = h.kind, .bytes = h.bytes, .tenant = h.tenant};
      it.at = places[i];
      it.placed = true;
      it.sequence = h.sequence;
      index.find_or_insert(h.key).slot = static_cast<slot_number>(h.slot);
    }
    std::ranges::sort(found, {}, &slot_header::sequence);  // the oldest is inserted first
    for (const slot_header& h : found)
      put_on_file(static_cast<slot_number>(h.slot));
    counts.recovered = found.size();
  }
};

file_tier::file_tier(file_tier_options options, const id128& tier_id)
    : state_(std::make_unique<state>(options, tier_id)) {}
file_tier::~file_tier() = default;
file_tier::file_tier(file_tier&&) noexcept = default;
file_tier& file_tier::operator=(file_tier&&) noexcept = default;

void file_tier::recover(std::uint64_t number, std::span<const std::byte> bytes) {
  state& s = *state_;
  if (number >= s.slots.size()) s.slots.resize(number + 1);
  const auto header = load_slot_header(bytes, number, s.tier);
  if (!header) {
    if (header.error().code != errc::not_found) ++s.counts.corrupt;
    return;
  }
  s.next_sequence = std::max(s.next_sequence, header->sequence + 1);
  if (!header->empty) s.found.push_back(*header);
}

void file_tier::end_recovery() {
  state& s = *state_;
  s.settle_found();
  s.adopt_found();
  s.found = {};
  for (std::size_t i = 0; i < s.slots.size(); ++i) {
    if (s.slots[i].life == slot_life::unused) s.unused.push(static_cast<slot_number>(i));
  }
}

enqueue_outcome file_tier::enqueue(const filed_item& item) {
  state& s = *state_;
  if (!item.key || item.bytes == 0 || item.bytes > s.room.capacity_bytes()) return enqueue_outcome::refused;
  if (s.slot_of(item.key) != no_slot || s.queued.contains(item.key)) return enqueue_outcome::known;
  s.queue.push_back(item);
  s.queued.emplace(item.key, item.bytes);
  s.counts.queued_bytes += item.bytes;
  return enqueue_outcome::queued;
}

bool file_tier::takes_more(time_point now) const {
  return now < state_->full_until || state_->counts.queued_bytes < state_->options.queue_bytes;
}

std::optional<write_order> file_tier::start_write(time_point now, evicted_items& evicted) {
  state& s = *state_;
  if (now < s.full_until || s.in_flight >= s.options.depth) return std::nullopt;
  while (!s.queue.empty()) {
    const filed_item item = s.queue.front();
    s.queue.pop_front();
    if (s.queued.erase(item.key) == 0) continue;  // dropped meanwhile
    const slot_number number = s.new_slot();
    const auto at = s.make_room(item.bytes, number, evicted);
    if (!at) {
      s.unused.push(number);
      s.counts.queued_bytes -= item.bytes;
      ++s.counts.failed;
      continue;
    }
    s.slots[number].item = item;
    s.slots[number].at = *at;
    s.slots[number].placed = true;
    s.slots[number].life = slot_life::writing;
    s.index.find_or_insert(item.key).slot = number;
    ++s.in_flight;
    return write_order{
        .slot = number, .key = item.key, .offset = s.room.offset(*at), .bytes = whole_sectors(item.bytes)};
  }
  return std::nullopt;
}

void file_tier::abandon(slot_number number) {
  state_->end_flight(number);
  state_->give_up_write(number);
}

std::optional<header_order> file_tier::written(slot_number number, errc outcome, time_point now) {
  state& s = *state_;
  slot& it = s.slots[number];
  if (outcome == errc::ok && !it.dropped) {
    it.life = slot_life::heading;
    it.sequence = s.next_sequence++;
    return header_order{.slot = number,
                        .offset = header_offset(number),
                        .content = {.slot = number,
                                    .tier = s.tier,
                                    .key = it.item.key,
                                    .sequence = it.sequence,
                                    .place = s.room.offset(it.at),
                                    .bytes = it.item.bytes,
                                    .tenant = it.item.tenant,
                                    .kind = it.item.kind}};
  }
  s.end_flight(number);
  if (outcome != errc::ok) ++s.counts.failed;
  if (outcome == errc::out_of_space) {
    s.stop_for(now);
    const filed_item item = it.item;
    const bool again = !it.dropped;
    s.give_up_write(number);
    if (again) enqueue(item);
  } else if (outcome == errc::ok) {
    s.give_up_write(number);
  } else {
    s.retire(number);
  }
  return std::nullopt;
}

header_outcome file_tier::header_written(slot_number number, errc outcome, time_point now) {
  state& s = *state_;
  slot& it = s.slots[number];
  if (outcome != errc::ok) ++s.counts.failed;
  if (outcome == errc::out_of_space) s.stop_for(now);
  if (it.life == slot_life::leaving) {
    it.header_pending = false;
    s.free_when_done(number);
    return {};
  }
  s.end_flight(number);
  if (outcome == errc::out_of_space) {
    s.give_up_write(number);
    return {};
  }
  if (outcome != errc::ok) {
    s.retire(number);
    return {};
  }
  if (it.dropped) return {.wants_sync = false, .next = s.empty(number)};
  it.life = slot_life::unsynced;
  ++s.counts.written;
  s.waiting.emplace_back(number, it.sequence);
  s.waiting_bytes += it.item.bytes;
  return {.wants_sync = true, .next = std::nullopt};
}

bool file_tier::start_sync() {
  state& s = *state_;
  if (s.sync_running || s.waiting.empty()) return false;
  const std::uint64_t worth_it = std::min(most_unsynced_bytes, s.options.queue_bytes / 2);
  if (s.in_flight != 0 && s.waiting_bytes < worth_it) return false;
  s.waiting_bytes = 0;
  s.in_sync = std::exchange(s.waiting, {});
  for (const auto& [number, sequence] : s.in_sync) {
    slot& it = s.slots[number];
    if (it.life == slot_life::unsynced && it.sequence == sequence) it.life = slot_life::syncing;
  }
  s.sync_running = true;
  return true;
}

sync_outcome file_tier::synced(errc outcome) {
  state& s = *state_;
  sync_outcome result;
  s.sync_running = false;
  auto covered = std::exchange(s.in_sync, {});
  if (outcome != errc::ok) {
    ++s.counts.failed;
    // A device that lost some of what was written may have lost all of it.
    const auto others = std::exchange(s.waiting, {});
    s.waiting_bytes = 0;
    covered.insert(covered.end(), others.begin(), others.end());
  }
  for (const auto& [number, sequence] : covered) {
    slot& it = s.slots[number];
    if (it.sequence != sequence || (it.life != slot_life::syncing && it.life != slot_life::unsynced))
      continue;  // dropped meanwhile
    if (outcome == errc::ok) {
      result.on_file.push_back({it.item.key, it.item.kind});
      s.put_on_file(number);
    } else {
      result.lost.push_back(it.item.key);
      s.retire(number);
    }
  }
  return result;
}

std::optional<read_order> file_tier::begin_read(const id128& key) {
  const auto order = begin_check(key);
  if (!order) return std::nullopt;
  state_->eviction->touch(order->slot);
  ++state_->counts.read;
  return order;
}

std::optional<read_order> file_tier::begin_check(const id128& key) {
  state& s = *state_;
  const slot_number number = s.on_file(key);
  if (number == no_slot) return std::nullopt;
  slot& it = s.slots[number];
  ++it.readers;
  return read_order{.slot = number,
                    .kind = it.item.kind,
                    .offset = s.room.offset(it.at),
                    .bytes = it.item.bytes,
                    .tenant = it.item.tenant,
                    .pinned = it.pinned};
}

read_end file_tier::end_read(slot_number number, errc outcome) {
  state& s = *state_;
  slot& it = s.slots[number];
  --it.readers;
  if (outcome == errc::corrupt) ++s.counts.corrupt;
  if (outcome == errc::io) ++s.counts.failed;
  if (it.life != slot_life::on_file) {
    s.free_when_done(number);
    return {};
  }
  if (outcome == errc::corrupt) return {.on_file = false, .next = s.empty(number)};
  if (outcome == errc::io) s.retire(number);
  return {.on_file = outcome != errc::io, .next = std::nullopt};
}

bool file_tier::holds(const id128& key) const {
  return state_->on_file(key) != no_slot;
}

bool file_tier::knows(const id128& key) const {
  return state_->slot_of(key) != no_slot || state_->queued.contains(key);
}

std::uint32_t file_tier::tenant_of(const id128& key) const {
  const slot_number number = state_->on_file(key);
  return number == no_slot ? 0 : state_->slots[number].item.tenant;
}

std::uint64_t file_tier::bytes_of(const id128& key) const {
  const slot_number number = state_->on_file(key);
  return number == no_slot ? 0 : state_->slots[number].item.bytes;
}

std::vector<header_order> file_tier::drop(std::span<const id128> keys,
                                          std::vector<machines::announced>& dropped) {
  state& s = *state_;
  std::vector<header_order> orders;
  for (const id128& key : keys) {
    if (const auto at = s.queued.find(key); at != s.queued.end()) {
      s.counts.queued_bytes -= at->second;
      s.queued.erase(at);
    }
    const slot_number number = s.slot_of(key);
    if (number == no_slot) continue;
    slot& it = s.slots[number];
    if (it.life == slot_life::on_file) dropped.push_back({key, it.item.kind});
    if (it.life == slot_life::writing || it.life == slot_life::heading) {
      it.dropped = true;
      s.index.erase(key);
    } else {
      orders.push_back(s.empty(number));
    }
  }
  return orders;
}

bool file_tier::set_pinned(const id128& key, bool pinned) {
  const slot_number number = state_->on_file(key);
  if (number == no_slot) return false;
  state_->slots[number].pinned = pinned;
  return true;
}

bool file_tier::pinned(const id128& key) const {
  const slot_number number = state_->on_file(key);
  return number != no_slot && state_->slots[number].pinned;
}

std::vector<machines::announced> file_tier::held(std::uint64_t& cursor, std::size_t limit) const {
  std::vector<machines::announced> page;
  for (; cursor < state_->slots.size() && page.size() < limit; ++cursor) {
    const slot& it = state_->slots[cursor];
    if (it.life == slot_life::on_file) page.push_back({it.item.key, it.item.kind});
  }
  return page;
}

file_tier_stats file_tier::stats() const {
  file_tier_stats stats = state_->counts;
  stats.capacity_bytes = state_->room.capacity_bytes();
  stats.used_bytes = state_->room.used_bytes();
  stats.queued_items = state_->queued.size() + state_->in_flight;
  return stats;
}

std::string file_tier::inconsistency() const {
  const state& s = *state_;
  if (!s.room.consistent()) return "the data area's books do not add up";
  std::uint64_t used = 0;
  std::uint64_t retired = 0;
  std::uint64_t on_the_way = 0;
  std::size_t found_by_key = 0;
  std::size_t items = 0;
  std::size_t in_flight = 0;
  std::size_t unused = 0;
  for (slot_number i = 0; i < s.slots.size(); ++i) {
    const slot& it = s.slots[i];
    if (it.life == slot_life::unused) {
      ++unused;
      continue;
    }
    used += it.placed ? s.place_bytes(i) : 0;
    const bool flying = it.life == slot_life::writing || it.life == slot_life::heading;
    in_flight += flying ? 1 : 0;
    if (flying) on_the_way += it.item.bytes;
    if (it.life == slot_life::retired) retired += s.place_bytes(i);
    items += it.life == slot_life::on_file ? 1 : 0;
    const bool gone = it.life == slot_life::leaving || it.life == slot_life::retired || it.dropped;
    if (!gone && s.slot_of(it.item.key) != i) return "a slot is not found by its key";
    found_by_key += gone ? 0 : 1;
    if (it.life == slot_life::leaving && it.readers == 0 && !it.header_pending)
      return "a slot that nobody needs was not freed";
  }
  for (const auto& [key, bytes] : s.queued)
    on_the_way += bytes;
  if (used != s.room.used_bytes()) return "slots and data area disagree about the used bytes";
  if (retired != s.counts.retired_bytes) return "the retired bytes are miscounted";
  if (on_the_way != s.counts.queued_bytes) return "the queued bytes are miscounted";
  if (found_by_key != s.index.size()) return "the index does not hold exactly what is known";
  if (items != s.counts.items || items != s.eviction->size()) return "items on file are miscounted";
  if (in_flight != s.in_flight) return "writes in flight are miscounted";
  if (unused != s.unused.size()) return "unused slots are miscounted";
  return {};
}

}  // namespace weft::tier
