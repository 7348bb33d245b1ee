#include <weft/machines/write_batch.hpp>

#include "placement_order.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace weft::machines {
namespace {

using node_index = std::uint16_t;

struct item_state {
  std::vector<node_index> order;  // of all nodes, first choice first
  std::size_t next = 0;           // in `order`
  std::vector<node_index> holders;
  std::uint32_t under_way = 0;  // puts that may still be answered in time
  errc why = errc::ok;          // the last failure
  bool done = false;
};

struct call_state {
  node_index node = 0;
  std::vector<std::uint32_t> items;
  time_point expires{};
  bool abandoned = false;  // others were asked in its place; if it succeeds after all, so much the better
};

}  // namespace

struct write_batch::state {
  std::vector<write_item> items;
  write_options options;
  placement_order placement;
  std::vector<item_state> progress;
  std::vector<bool> down;                     // by node
  std::map<std::uint64_t, call_state> calls;  // not reported yet
  std::uint64_t last_call = 0;
  std::size_t undone = 0;
  time_point deadline{};
  std::vector<write_action> actions;

  state(std::vector<write_item> i, write_options o)
      : items(std::move(i)),
        options(std::move(o)),
        placement(options.storage_nodes, options.storage_shares),
        progress(items.size()),
        down(placement.nodes().size(), false),
        undone(items.size()) {
    options.replicas = std::max(options.replicas, 1U);
    for (std::size_t n = 0; n < items.size(); ++n) {
      progress[n].order =
          placement.of(items[n].placed_by ? items[n].placed_by : items[n].key, placement.nodes().size());
    }
  }

  std::vector<write_action> take_actions() {
    std::stable_partition(actions.begin(), actions.end(),
                          [](const write_action& a) { return std::holds_alternative<write_done>(a); });
    return std::exchange(actions, {});
  }

  void finish(std::uint32_t item, errc why) {
    item_state& it = progress[item];
    write_done done;
    done.item = item;
    for (const node_index n : it.holders)
      done.holders.push_back(placement.nodes()[n]);
    if (it.holders.size() >= options.replicas) {
      done.outcome = write_outcome::stored;
    } else {
      done.outcome = it.holders.empty() ? write_outcome::failed : write_outcome::degraded;
      done.why = why;
    }
    it.done = true;
    it.order = {};
    --undone;
    actions.push_back(std::move(done));
  }

  // Asks further nodes where copies are missing, and ends the items for which nothing is left to do.
  void advance(time_point now) {
    std::map<node_index, std::vector<std::uint32_t>> puts;
    for (std::uint32_t item = 0; item < progress.size(); ++item) {
      item_state& it = progress[item];
      if (it.done) continue;
      if (it.holders.size() >= options.replicas) {
        finish(item, errc::ok);
        continue;
      }
      if (now >= deadline) {
        finish(item, errc::deadline_exceeded);
        continue;
      }
      choose_nodes(item, puts);
      if (it.under_way == 0) finish(item, it.why == errc::ok ? errc::unreachable : it.why);
    }
    for (auto& [node, wanted] : puts)
      put(node, std::move(wanted), now);
  }

  void choose_nodes(std::uint32_t item, std::map<node_index, std::vector<std::uint32_t>>& puts) {
    item_state& it = progress[item];
    while (it.holders.size() + it.under_way < options.replicas && it.next < it.order.size()) {
      const node_index node = it.order[it.next++];
      if (down[node]) continue;
      puts[node].push_back(item);
      ++it.under_way;
    }
  }

  void put(node_index node, std::vector<std::uint32_t> wanted, time_point now) {
    const duration timeout = share_of_rest(wanted, now);
    calls.emplace(++last_call, call_state{.node = node, .items = wanted, .expires = now + timeout});
    actions.push_back(put_items{
        .call = last_call, .node = placement.nodes()[node], .items = std::move(wanted), .timeout = timeout});
  }

  // Half of the rest, so that another node can take over; all of it where there is no other.
  duration share_of_rest(const std::vector<std::uint32_t>& wanted, time_point now) const {
    const bool others = std::ranges::any_of(wanted, [&](std::uint32_t item) {
      const item_state& it = progress[item];
      return std::any_of(it.order.begin() + static_cast<std::ptrdiff_t>(it.next), it.order.end(),
                         [&](node_index n) { return !down[n]; });
    });
    return (deadline - now) / (others ? 2 : 1);
  }

  void take_report(const call_state& c, const std::vector<errc>& outcomes) {
    for (std::size_t i = 0; i < c.items.size(); ++i) {
      item_state& it = progress[c.items[i]];
      if (it.done) continue;
      if (!c.abandoned) --it.under_way;
      const errc outcome = i < outcomes.size() ? outcomes[i] : errc::internal;
      if (outcome != errc::ok) {
        it.why = outcome;
      } else if (!down[c.node]) {
        it.holders.push_back(c.node);
      }
    }
  }

  void abandon(call_state& c, errc why) {
    if (c.abandoned) return;
    c.abandoned = true;
    for (const std::uint32_t item : c.items) {
      item_state& it = progress[item];
      if (it.done) continue;
      --it.under_way;
      it.why = why;
    }
  }
};

write_batch::write_batch(std::vector<write_item> items, write_options options)
    : state_(std::make_unique<state>(std::move(items), std::move(options))) {}
write_batch::~write_batch() = default;
write_batch::write_batch(write_batch&&) noexcept = default;
write_batch& write_batch::operator=(write_batch&&) noexcept = default;

std::vector<write_action> write_batch::start(time_point now) {
  state_->deadline = now + state_->options.deadline;
  state_->advance(now);
  return state_->take_actions();
}

std::vector<write_action> write_batch::on_put(std::uint64_t call, const std::vector<errc>& outcomes,
                                              time_point now) {
  state& s = *state_;
  const auto at = s.calls.find(call);
  if (at == s.calls.end()) return {};
  const call_state c = std::move(at->second);
  s.calls.erase(at);
  s.take_report(c, outcomes);
  s.advance(now);
  return s.take_actions();
}

std::vector<write_action> write_batch::on_node_down(const node_ref& node, time_point now) {
  state& s = *state_;
  for (node_index n = 0; n < s.placement.nodes().size(); ++n) {
    const node_ref& life = s.placement.nodes()[n];
    if (life.node != node.node || life.incarnation > node.incarnation) continue;
    s.down[n] = true;
    for (item_state& it : s.progress) {
      if (!it.done) std::erase(it.holders, n);
    }
    for (auto& [number, c] : s.calls) {
      if (c.node == n) s.abandon(c, errc::unreachable);
    }
  }
  s.advance(now);
  return s.take_actions();
}

std::vector<write_action> write_batch::tick(time_point now) {
  state& s = *state_;
  for (auto& [number, c] : s.calls) {
    if (c.expires <= now) s.abandon(c, errc::deadline_exceeded);
  }
  s.advance(now);
  return s.take_actions();
}

std::optional<time_point> write_batch::next_deadline() const {
  const state& s = *state_;
  if (s.undone == 0) return std::nullopt;
  time_point next = s.deadline;
  for (const auto& [number, c] : s.calls) {
    if (!c.abandoned) next = std::min(next, c.expires);
  }
  return next;
}

bool write_batch::all_done() const {
  return state_->undone == 0;
}
bool write_batch::finished() const {
  return state_->undone == 0 && state_->calls.empty();
}
std::span<const write_item> write_batch::items() const {
  return state_->items;
}

}  // namespace weft::machines
