#include <weft/base/id128.hpp>
#include <weft/machines/directory.hpp>
#include <weft/machines/key_table.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <string>
#include <unordered_map>

namespace weft::machines {
namespace {

using slot_index = std::uint16_t;  // of a node in `nodes`
constexpr std::size_t max_slots = std::numeric_limits<slot_index>::max();
constexpr std::size_t inline_holders = 7;

struct entry {
  id128 key;
  std::uint8_t count = 0;  // of inline holders
  item_kind kind = item_kind::block;
  std::array<slot_index, inline_holders> holders{};
};
static_assert(sizeof(entry) == 32);

struct node_slot {
  node_ref ref;
  std::uint64_t announced_at = 0;  // sequence of the latest announcement
  bool alive = false;
  std::size_t segments_to_sweep = 0;  // of a dead one, until no entry names it any more
};

}  // namespace

struct directory::state {
  key_table<entry> table;
  std::set<id128> manifests;
  // Of keys with more holders than an entry has room for: the others.
  std::unordered_map<id128, std::vector<slot_index>> more_holders;

  std::vector<node_slot> nodes;
  std::vector<slot_index> unused_slots;
  std::unordered_map<id128, slot_index> slot_of_node;           // alive ones
  std::unordered_map<id128, std::uint64_t> over;                // by node: the latest life that was dropped
  std::unordered_map<node_ref, std::uint64_t> announced_epoch;  // alive ones
  std::size_t dead_slots = 0;
  std::size_t sweep_at = 0;

  std::uint64_t rebuild_epoch = 0;
  std::vector<node_ref> awaited;
  time_point rebuild_until{};

  bool alive(slot_index s) const { return nodes[s].alive; }

  bool is_over(const node_ref& ref) const {
    const auto at = over.find(ref.node);
    return at != over.end() && ref.incarnation <= at->second;
  }

  std::optional<slot_index> live_slot(const node_ref& ref) const {
    const auto at = slot_of_node.find(ref.node);
    if (at == slot_of_node.end() || nodes[at->second].ref != ref) return std::nullopt;
    return at->second;
  }

  std::optional<slot_index> new_slot(const node_ref& ref) {
    if (unused_slots.empty() && nodes.size() == max_slots) sweep(std::numeric_limits<std::size_t>::max());
    slot_index s = 0;
    if (!unused_slots.empty()) {
      s = unused_slots.back();
      unused_slots.pop_back();
    } else if (nodes.size() < max_slots) {
      s = static_cast<slot_index>(nodes.size());
      nodes.emplace_back();
    } else {
      return std::nullopt;
    }
    nodes[s] = {.ref = ref, .announced_at = 0, .alive = true, .segments_to_sweep = 0};
    slot_of_node[ref.node] = s;
    return s;
  }

  void bury(slot_index s) {
    nodes[s].alive = false;
    nodes[s].segments_to_sweep = table.segment_count;
    slot_of_node.erase(nodes[s].ref.node);
    announced_epoch.erase(nodes[s].ref);
    ++dead_slots;
  }

  void add_holder(entry& e, slot_index s) {
    const auto held_by = std::span(e.holders).first(e.count);
    if (std::ranges::find(held_by, s) != held_by.end()) return;
    if (e.count < inline_holders) {
      e.holders[e.count++] = s;
      return;
    }
    std::vector<slot_index>& more = more_holders[e.key];
    if (std::ranges::find(more, s) == more.end()) more.push_back(s);
  }

  // Removes the holders for which `gone` holds. True where none is left.
  template <class Predicate>
  bool remove_holders(entry& e, Predicate gone) {
    const auto end = std::remove_if(e.holders.begin(), e.holders.begin() + e.count, gone);
    e.count = static_cast<std::uint8_t>(end - e.holders.begin());
    if (const auto at = more_holders.find(e.key); at != more_holders.end()) {
      std::vector<slot_index>& more = at->second;
      std::erase_if(more, gone);
      while (!more.empty() && e.count < inline_holders) {
        e.holders[e.count++] = more.back();
        more.pop_back();
      }
      if (more.empty()) more_holders.erase(at);
    }
    return e.count == 0;
  }

  void set_kind(entry& e, item_kind kind) {
    if (kind == item_kind::manifest) {
      manifests.insert(e.key);
    } else if (e.kind == item_kind::manifest) {
      manifests.erase(e.key);
    }
    e.kind = kind;
  }

  void forget(const entry& e) {
    if (e.kind == item_kind::manifest) manifests.erase(e.key);
    more_holders.erase(e.key);
  }

  template <class Visitor>
  void for_each_live_holder(const entry& e, Visitor visit) const {
    for (std::size_t i = 0; i < e.count; ++i) {
      if (alive(e.holders[i])) visit(e.holders[i]);
    }
    if (e.count < inline_holders || more_holders.empty()) return;
    const auto at = more_holders.find(e.key);
    if (at == more_holders.end()) return;
    for (const slot_index s : at->second) {
      if (alive(s)) visit(s);
    }
  }

  void sweep_segment(std::size_t segment) {
    table.erase_if_in(segment, [&](entry& e) {
      const bool empty = remove_holders(e, [&](slot_index s) { return !alive(s); });
      if (empty) forget(e);
      return empty;
    });
    for (std::size_t s = 0; s < nodes.size(); ++s) {
      if (nodes[s].segments_to_sweep == 0 || --nodes[s].segments_to_sweep != 0) continue;
      unused_slots.push_back(static_cast<slot_index>(s));
      --dead_slots;
    }
  }

  bool sweep(std::size_t entries) {
    std::size_t looked_at = 0;
    while (dead_slots != 0 && looked_at < entries) {
      looked_at += table.segment_size(sweep_at) + 1;
      sweep_segment(sweep_at);
      sweep_at = (sweep_at + 1) % table.segment_count;
    }
    return dead_slots != 0;
  }
};

directory::directory() : state_(std::make_unique<state>()) {}
directory::~directory() = default;
directory::directory(directory&&) noexcept = default;
directory& directory::operator=(directory&&) noexcept = default;

result<void> directory::announce(const node_ref& holder, std::span<const announced> keys,
                                 std::uint64_t sequence) {
  state& s = *state_;
  if (std::ranges::any_of(keys, [](const announced& a) { return !a.key; })) {
    return fail(errc::invalid_argument, "announcement of a zero key by node " + to_hex(holder.node));
  }
  if (s.is_over(holder)) {
    return fail(errc::stale, "node " + to_hex(holder.node) + " announces with incarnation " +
                                 std::to_string(holder.incarnation) +
                                 ", which is over; it has to join again");
  }
  std::optional<slot_index> slot = s.live_slot(holder);
  if (!slot) {
    if (const auto other = s.slot_of_node.find(holder.node); other != s.slot_of_node.end()) {
      const node_ref present = s.nodes[other->second].ref;
      if (present.incarnation > holder.incarnation) {
        return fail(errc::stale, "node " + to_hex(holder.node) +
                                     " has announced with a later incarnation than " +
                                     std::to_string(holder.incarnation));
      }
      drop(present);
    }
    slot = s.new_slot(holder);
    if (!slot) return fail(errc::overloaded, "the directory shard knows 65535 nodes already");
  }
  s.nodes[*slot].announced_at = std::max(s.nodes[*slot].announced_at, sequence);
  for (const announced& a : keys) {
    entry& e = s.table.find_or_insert(a.key);
    s.set_kind(e, a.kind);
    s.add_holder(e, *slot);
  }
  return {};
}

result<void> directory::withdraw(const node_ref& holder, std::span<const id128> keys,
                                 std::uint64_t sequence) {
  state& s = *state_;
  const std::optional<slot_index> slot = s.live_slot(holder);
  if (!slot) return {};
  if (sequence != 0 && sequence < s.nodes[*slot].announced_at)
    return fail(errc::stale, "a later announcement of node " + to_hex(holder.node) + " came first");
  for (const id128& key : keys) {
    entry* e = s.table.find(key);
    if (e == nullptr) continue;
    const bool empty = s.remove_holders(*e, [&](slot_index h) { return h == *slot || !s.alive(h); });
    if (!empty) continue;
    s.forget(*e);
    s.table.erase(key);
  }
  return {};
}

void directory::drop(const node_ref& dead) {
  state& s = *state_;
  std::uint64_t& over = s.over[dead.node];
  over = std::max(over, dead.incarnation);
  std::erase_if(s.awaited, [&](const node_ref& n) { return s.is_over(n); });
  const auto at = s.slot_of_node.find(dead.node);
  if (at != s.slot_of_node.end() && s.is_over(s.nodes[at->second].ref)) s.bury(at->second);
}

void directory::readmit(const node_ref& member) {
  const auto at = state_->over.find(member.node);
  if (at == state_->over.end() || at->second < member.incarnation) return;
  if (member.incarnation == 0) {
    state_->over.erase(at);
  } else {
    at->second = member.incarnation - 1;
  }
}

void directory::drop_foreign(const shard_map& shards, const node_ref& self) {
  state& s = *state_;
  if (shards.empty()) return;
  for (std::size_t segment = 0; segment < s.table.segment_count; ++segment) {
    s.table.erase_if_in(segment, [&](entry& e) {
      const bool foreign = shards.owner_of(e.key).node != self.node;
      if (foreign) s.forget(e);
      return foreign;
    });
  }
}

located directory::locate(std::span<const id128> keys, time_point now) const {
  constexpr std::size_t ahead = 8;
  constexpr std::uint16_t unseen = std::numeric_limits<std::uint16_t>::max();
  const state& s = *state_;
  located answer;
  answer.complete = !rebuilding(now);
  answer.ends.reserve(keys.size());
  answer.holders.reserve(keys.size() * 2);
  std::vector<std::uint16_t> number(s.nodes.size(), unseen);  // of a slot in the answer
  bool in_prefix = true;

  for (std::size_t i = 0; i < std::min(ahead, keys.size()); ++i)
    s.table.prefetch(keys[i]);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i + ahead < keys.size()) s.table.prefetch(keys[i + ahead]);
    const std::size_t before = answer.holders.size();
    if (const entry* e = keys[i] ? s.table.find(keys[i]) : nullptr) {
      s.for_each_live_holder(*e, [&](slot_index h) {
        if (number[h] == unseen) {
          number[h] = static_cast<std::uint16_t>(answer.nodes.size());
          answer.nodes.push_back(s.nodes[h].ref);
        }
        answer.holders.push_back(number[h]);
      });
    }
    in_prefix = in_prefix && answer.holders.size() > before;
    if (in_prefix) ++answer.prefix_keys;
    answer.ends.push_back(static_cast<std::uint32_t>(answer.holders.size()));
  }
  return answer;
}

std::vector<id128> directory::documents(const id128& after, std::size_t limit) const {
  const state& s = *state_;
  std::vector<id128> keys;
  for (auto at = s.manifests.upper_bound(after); at != s.manifests.end() && keys.size() < limit; ++at) {
    bool held = false;
    if (const entry* e = s.table.find(*at)) s.for_each_live_holder(*e, [&](slot_index) { held = true; });
    if (held) keys.push_back(*at);
  }
  return keys;
}

void directory::begin_rebuild(std::uint64_t epoch, std::span<const node_ref> expected, time_point until) {
  state& s = *state_;
  if (epoch < s.rebuild_epoch) return;
  s.rebuild_epoch = epoch;
  s.rebuild_until = until;
  s.awaited.assign(expected.begin(), expected.end());
  std::erase_if(s.awaited, [&](const node_ref& n) {
    const auto at = s.announced_epoch.find(n);
    return s.is_over(n) || (at != s.announced_epoch.end() && at->second >= epoch);
  });
}

void directory::announced_all(const node_ref& holder, std::uint64_t epoch) {
  state& s = *state_;
  if (s.is_over(holder)) return;
  std::uint64_t& announced = s.announced_epoch[holder];
  announced = std::max(announced, epoch);
  if (announced >= s.rebuild_epoch) std::erase(s.awaited, holder);
}

bool directory::rebuilding(time_point now) const {
  return !state_->awaited.empty() && now < state_->rebuild_until;
}

bool directory::sweep(std::size_t entries) {
  return state_->sweep(entries);
}

directory_stats directory::stats() const {
  const state& s = *state_;
  constexpr std::size_t set_node_bytes = 64;
  return {.entries = s.table.size(),
          .manifests = s.manifests.size(),
          .bytes = s.table.bytes() + s.manifests.size() * set_node_bytes,
          .nodes = s.slot_of_node.size()};
}

}  // namespace weft::machines
