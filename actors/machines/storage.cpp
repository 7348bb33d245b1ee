#include <weft/machines/storage.hpp>

#include "storage_state.hpp"

namespace weft::machines {

storage::storage(storage_options options, std::unique_ptr<policies::eviction_policy> eviction)
    : state_(std::make_unique<state>(options, std::move(eviction))) {}
storage::~storage() = default;
storage::storage(storage&&) noexcept = default;
storage& storage::operator=(storage&&) noexcept = default;

reservation storage::reserve(const reserve_request& request, time_point now) {
  state& s = *state_;
  s.expire(now);
  reservation answer;
  if (!request.key || request.bytes == 0 || request.bytes > s.arena.capacity_bytes()) return answer;
  if (!request.replace && s.has_all(request.key, request.bytes)) {
    answer.outcome = reserve_outcome::already_have;
    return answer;
  }
  if (request.may_evict && s.over_quota(request.tenant, whole_units(request.bytes))) {
    ++s.counts.over_quota;
    answer.outcome = reserve_outcome::over_quota;
    return answer;
  }
  const std::uint32_t number = s.new_slot();
  const auto at = request.may_evict ? s.make_room(request.bytes, number, answer.evicted, answer.trimmed)
                                    : s.arena.allocate(request.bytes, number);
  if (!at) {
    s.unused_slots.push_back(number);
    answer.outcome = reserve_outcome::out_of_space;
    return answer;
  }
  slot& fresh = s.slots[number];
  fresh = {.key = request.key,
           .generation = s.next_generation++,
           .bytes = request.bytes,
           .at = *at,
           .tenant = request.tenant,
           .recompute_cost = request.recompute_cost,
           .kind = request.kind,
           .replaces = request.replace,
           .band_ends = {},
           .life = slot_state::reserved};
  s.charge(fresh.tenant, static_cast<std::int64_t>(s.place_bytes(number)));
  s.reserved.emplace(fresh.generation, number);
  s.forget_settled_reservations();
  if (request.expires) s.reservation_ends.push_back({fresh.generation, now + s.options.reservation_timeout});
  answer.outcome = reserve_outcome::granted;
  answer.offset = s.arena.offset(*at);
  answer.generation = fresh.generation;
  return answer;
}

commit_outcome storage::commit(std::uint64_t generation, time_point now,
                               std::span<const std::uint64_t> band_ends) {
  state& s = *state_;
  s.expire(now);
  const auto at = s.reserved.find(generation);
  if (at == s.reserved.end()) return commit_outcome::unknown;
  const std::uint32_t number = at->second;
  if (!s.slots[number].replaces && s.has_all(s.slots[number].key, s.slots[number].bytes)) {
    s.give_up_reservation(generation);
    return commit_outcome::already_have;
  }
  s.reserved.erase(at);
  s.slots[number].band_ends.assign(band_ends.begin(), band_ends.end());
  s.start_holding(number);
  return commit_outcome::committed;
}

bool storage::abort(std::uint64_t generation) {
  return state_->give_up_reservation(generation);
}

bool storage::is_reserved(std::uint64_t generation) const {
  return state_->reserved.contains(generation);
}

lease_grant storage::lease(std::span<const id128> keys, duration length, time_point now) {
  state& s = *state_;
  s.expire(now);
  lease_grant grant;
  grant.until = now + std::min(length, s.options.longest_lease);
  grant.slots.resize(keys.size());
  std::vector<std::uint32_t> covered;
  covered.reserve(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::uint32_t number = s.slot_of(keys[i]);
    if (number == no_slot) {
      ++s.counts.misses;
      continue;
    }
    ++s.counts.hits;
    s.change_uses(number, [](slot& it) { ++it.leases; });
    s.eviction->touch(number);
    covered.push_back(number);
    grant.slots[i] = s.describe(number);
  }
  if (!covered.empty()) grant.id = s.leases.grant(std::move(covered), grant.until);
  return grant;
}

void storage::touch(std::span<const id128> keys) {
  for (const id128& key : keys) {
    const std::uint32_t number = state_->slot_of(key);
    if (number == no_slot) continue;
    ++state_->counts.hits;
    state_->eviction->touch(number);
  }
}

bool storage::release(lease_id id) {
  const std::vector<std::uint32_t> ended = state_->leases.release(id);
  state_->unlease(ended);
  return !ended.empty();
}

std::vector<announced> storage::drop(std::span<const id128> keys) {
  std::vector<announced> dropped;
  for (const id128& key : keys) {
    const std::uint32_t number = state_->slot_of(key);
    if (number == no_slot) continue;
    dropped.push_back({key, state_->slots[number].kind});
    state_->stop_holding(number);
  }
  return dropped;
}

bool storage::pin(const id128& key) {
  const std::uint32_t number = state_->slot_of(key);
  if (number == no_slot) return false;
  state_->change_uses(number, [](slot& it) { ++it.pins; });
  if (state_->slots[number].pins == 1) ++state_->counts.pinned_items;
  return true;
}

bool storage::unpin(const id128& key) {
  const std::uint32_t number = state_->slot_of(key);
  if (number == no_slot || state_->slots[number].pins == 0) return false;
  state_->change_uses(number, [](slot& it) { --it.pins; });
  if (state_->slots[number].pins == 0) --state_->counts.pinned_items;
  return true;
}

bool storage::holds(const id128& key) const {
  return state_->slot_of(key) != no_slot;
}

bool storage::lost_bands(const id128& key) const {
  const std::uint32_t number = state_->slot_of(key);
  return number != no_slot && state_->slots[number].trimmed;
}

std::optional<leased_slot> storage::find(const id128& key) const {
  const std::uint32_t number = state_->slot_of(key);
  if (number == no_slot) return std::nullopt;
  return state_->describe(number);
}

void storage::set_quota(std::uint32_t tenant, std::optional<std::uint64_t> bytes) {
  if (bytes) {
    state_->quotas[tenant] = *bytes;
  } else {
    state_->quotas.erase(tenant);
  }
}

std::uint64_t storage::tenant_bytes(std::uint32_t tenant) const {
  const auto at = state_->tenant_used.find(tenant);
  return at == state_->tenant_used.end() ? 0 : at->second;
}

relief storage::relieve(std::size_t limit) {
  relief done;
  state_->relieve(limit, done);
  return done;
}

void storage::set_backed(const id128& key, bool backed) {
  const std::uint32_t number = state_->slot_of(key);
  if (number != no_slot) state_->slots[number].backed = backed;
}

std::optional<leased_slot> storage::hold(const id128& key) {
  const std::uint32_t number = state_->slot_of(key);
  if (number == no_slot) return std::nullopt;
  own_hold& mine = state_->own_holds[state_->slots[number].generation];
  mine.slot = number;
  if (mine.count++ == 0) state_->change_uses(number, [](slot& it) { ++it.leases; });
  return state_->describe(number);
}

void storage::let_go(std::uint64_t generation) {
  const auto at = state_->own_holds.find(generation);
  if (at == state_->own_holds.end()) return;
  if (--at->second.count != 0) return;
  const std::vector ended{at->second.slot};
  state_->own_holds.erase(at);
  state_->unlease(ended);
}

std::uint32_t storage::tenant_of(const id128& key) const {
  const std::uint32_t number = state_->slot_of(key);
  return number == no_slot ? 0 : state_->slots[number].tenant;
}

void storage::tick(time_point now) {
  state_->expire(now);
}

std::optional<time_point> storage::next_deadline() {
  state_->forget_settled_reservations();
  std::optional<time_point> next = state_->leases.next_expiry();
  if (!state_->reservation_ends.empty()) {
    const time_point until = state_->reservation_ends.front().until;
    if (!next || until < *next) next = until;
  }
  return next;
}

std::vector<announced> storage::held(std::uint64_t& cursor, std::size_t limit) const {
  std::vector<announced> page;
  for (; cursor < state_->slots.size() && page.size() < limit; ++cursor) {
    const slot& it = state_->slots[cursor];
    if (it.life == slot_state::held) page.push_back({it.key, it.kind});
  }
  return page;
}

storage_stats storage::stats() const {
  storage_stats stats = state_->counts;
  stats.capacity_bytes = state_->arena.capacity_bytes();
  stats.used_bytes = state_->arena.used_bytes();
  stats.free_bytes = state_->arena.free_bytes();
  stats.largest_hole_bytes = state_->arena.largest_hole_bytes();
  stats.reserved_items = state_->reserved.size();
  stats.leases = state_->leases.size();
  return stats;
}

std::string storage::inconsistency() const {
  const state& s = *state_;
  if (!s.arena.consistent()) return "the arena's books do not add up";
  std::uint64_t used = 0;
  std::uint64_t held_bytes = 0;
  std::uint64_t busy_bytes = 0;
  std::size_t held = 0;
  std::size_t reserved = 0;
  std::uint64_t charged = 0;
  for (std::uint32_t i = 0; i < s.slots.size(); ++i) {
    const slot& it = s.slots[i];
    if (it.life == slot_state::unused) continue;
    used += s.place_bytes(i);
    if (it.life != slot_state::dropped) charged += s.place_bytes(i);
    if (it.life == slot_state::held) held_bytes += s.place_bytes(i);
    if (it.life == slot_state::held && state::busy(it)) busy_bytes += s.place_bytes(i);
    if (it.life == slot_state::held && s.slot_of(it.key) != i) return "a held slot is not found by its key";
    if (it.life == slot_state::held && !s.eviction->holds(i)) return "the eviction policy lacks a held slot";
    if (it.life == slot_state::dropped && it.leases == 0)
      return "a dropped slot without leases was not freed";
    if (s.arena.size_bytes(it.at) < it.bytes) return "a slot is smaller than its bytes";
    held += it.life == slot_state::held ? 1 : 0;
    reserved += it.life == slot_state::reserved ? 1 : 0;
  }
  if (used != s.arena.used_bytes()) return "slots and arena disagree about the used bytes";
  if (held_bytes != s.held_bytes) return "the held bytes are miscounted";
  if (busy_bytes != s.busy_bytes) return "the leased and pinned bytes are miscounted";
  if (s.eviction->size() != held || s.eviction->bytes() != held_bytes)
    return "the eviction policy does not know exactly what is held";
  if (held != s.index.size() || held != s.counts.committed_items) return "held items are miscounted";
  if (reserved != s.reserved.size()) return "reservations are miscounted";
  for (const auto& [tenant, bytes] : s.tenant_used)
    charged -= bytes;
  if (charged != 0) return "tenants are charged wrongly";
  return {};
}

}  // namespace weft::machines
