#include <weft/machines/replication.hpp>

#include "placement_order.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace weft::machines {

replication::replication(const replication_options& options)
    : options_(options), pace_(options.bytes_per_second) {}
replication::~replication() = default;
replication::replication(replication&&) noexcept = default;
replication& replication::operator=(replication&&) noexcept = default;

void replication::on_view(const node_ref& self, std::vector<node_ref> storage_nodes,
                          std::vector<std::uint64_t> shares, time_point now) {
  if (self == self_ && storage_nodes == storage_nodes_ && shares == shares_) return;
  self_ = self;
  storage_nodes_ = std::move(storage_nodes);
  shares_ = std::move(shares);
  order_ = std::make_unique<placement_order>(storage_nodes_, shares_);
  queue_.clear();  // planned for other nodes
  in_pass_ = false;
  patrolling_ = false;
  next_pass_ = now + options_.settle;
}

void replication::mend(const std::vector<held_item>& items) {
  for (const auto& item : items) {
    std::erase_if(to_mend_, [&](const mending& m) { return m.item.key == item.key; });
    to_mend_.push_back({.item = item});
  }
}

std::vector<replication_action> replication::tick(time_point now) {
  std::vector<replication_action> actions;
  advance(actions, now);
  return actions;
}

std::vector<replication_action> replication::on_held(std::vector<held_item> page, time_point now) {
  std::vector<replication_action> actions;
  listing_ = false;
  if (in_pass_) {
    if (page.empty()) {
      end_pass(now);
    } else {
      std::erase_if(page, [&](const held_item& i) { return wanted_copies(i) < 2; });
      page_due_ = true;
      ask_about(actions, std::move(page));
    }
  }
  advance(actions, now);
  return actions;
}

std::vector<replication_action> replication::on_holders(std::uint64_t call, std::vector<key_holders> answers,
                                                        time_point now) {
  std::vector<replication_action> actions;
  const auto at = asked_.find(call);
  if (at == asked_.end()) return actions;
  const auto items = std::move(at->second);
  asked_.erase(at);
  for (std::size_t i = 0; i < items.size(); ++i)
    plan(items[i], i < answers.size() ? answers[i] : key_holders{.holders = {}, .maybe = true});
  advance(actions, now);
  return actions;
}

std::vector<replication_action> replication::on_offered(std::uint64_t call, std::vector<errc> outcomes,
                                                        time_point now) {
  std::vector<replication_action> actions;
  const auto at = offered_.find(call);
  if (at == offered_.end()) return actions;
  auto copies = std::move(at->second);
  offered_.erase(at);
  for (std::size_t i = 0; i < copies.size(); ++i) {
    auto& c = copies[i];
    c.targets.pop_back();
    if (i < outcomes.size() && outcomes[i] == errc::ok) {
      ++stats_.copies_made;
      stats_.bytes_copied += c.item.bytes;
      --c.missing;
    }
    if (c.missing == 0 || (i < outcomes.size() && outcomes[i] == errc::not_found)) continue;
    if (c.targets.empty()) {
      ++stats_.copies_failed;
      incomplete_ = true;
    } else {
      queue_.push_back(std::move(c));
    }
  }
  advance(actions, now);
  return actions;
}

bool replication::resting() const {
  return !in_pass_ && (patrolling_ || !next_pass_) && queue_.empty() && offered_.empty() && to_mend_.empty();
}

std::uint32_t replication::wanted_copies(const held_item& item) const {
  const auto own = options_.tenant_copies.find(item.tenant);
  const auto copies = own == options_.tenant_copies.end() ? options_.block_copies : own->second;
  return item.kind == item_kind::manifest ? std::max(options_.manifest_copies, copies) : copies;
}

// Holders that are in the view count; this node itself does also where its shard has not heard of it yet.
void replication::plan(const held_item& item, const key_holders& answer) {
  if (answer.holders.empty()) incomplete_ = true;
  if (!order_ || answer.maybe) return;
  const auto holds = [&](const node_ref& n) {
    return n == self_ || std::ranges::find(answer.holders, n) != answer.holders.end();
  };
  copy c{.item = item, .targets = {}, .missing = wanted_copies(item)};
  std::optional<node_ref> responsible;
  for (const std::uint16_t index : order_->of(item.key, std::numeric_limits<std::size_t>::max())) {
    const node_ref& n = order_->nodes()[index];
    if (!holds(n)) {
      c.targets.push_back(n);
      continue;
    }
    if (!responsible) responsible = n;
    if (--c.missing == 0) return;
  }
  if (responsible != self_ || c.targets.empty()) return;
  std::ranges::reverse(c.targets);
  c.missing = std::min(c.missing, static_cast<std::uint32_t>(c.targets.size()));
  queue_.push_back(std::move(c));
}

void replication::advance(std::vector<replication_action>& actions, time_point now) {
  if (!in_pass_ && next_pass_ && now >= *next_pass_) {
    next_pass_.reset();
    in_pass_ = true;
    incomplete_ = false;
    page_due_ = false;
    listing_ = true;
    actions.push_back(list_held{.from_start = true});
  }
  ask_about(actions, take_due_mending(now));
  while (!queue_.empty() && offered_.size() < options_.offers_at_once && pace_.may_begin(now))
    offer_next(actions);
  const bool idle = queue_.empty() && offered_.empty() && asked_.empty();
  if (in_pass_ && page_due_ && !listing_ && idle) {
    page_due_ = false;
    listing_ = true;
    actions.push_back(list_held{});
  }
}

bool replication::is_being_copied(const id128& key) const {
  const auto is_of_key = [&](const copy& c) { return c.item.key == key; };
  return std::ranges::any_of(queue_, is_of_key) || std::ranges::any_of(offered_, [&](const auto& offer) {
           return std::ranges::any_of(offer.second, is_of_key);
         });
}

std::vector<held_item> replication::take_due_mending(time_point now) {
  std::vector<held_item> due;
  for (auto& m : to_mend_) {
    if (m.due > now || is_being_copied(m.item.key)) continue;
    due.push_back(m.item);
    ++m.rounds;
    m.due = now + options_.retry;
  }
  std::erase_if(to_mend_, [&](const mending& m) { return m.rounds >= options_.mend_rounds; });
  return due;
}

void replication::ask_about(std::vector<replication_action>& actions, std::vector<held_item> items) {
  if (items.empty()) return;
  find_holders question{.call = ++last_call_, .keys = {}};
  for (const auto& item : items)
    question.keys.push_back(item.key);
  asked_.emplace(question.call, std::move(items));
  actions.push_back(std::move(question));
}

// What of the same tenant is queued for the same node as the first goes with it, as far as one offer may be
// large.
void replication::offer_next(std::vector<replication_action>& actions) {
  offer_copies offer{.call = ++last_call_, .target = queue_.front().targets.back(), .items = {}};
  std::vector<copy> taken;
  std::deque<copy> left;
  std::uint64_t bytes = 0;
  for (auto& c : queue_) {
    const bool fits = taken.empty() || bytes + c.item.bytes <= options_.offer_bytes;
    const bool goes_along = taken.empty() || c.item.tenant == taken.front().item.tenant;
    if (!fits || !goes_along || c.targets.back() != offer.target) {
      left.push_back(std::move(c));
      continue;
    }
    bytes += c.item.bytes;
    offer.items.push_back(c.item);
    taken.push_back(std::move(c));
  }
  queue_ = std::move(left);
  pace_.spend(bytes);
  offered_.emplace(offer.call, std::move(taken));
  actions.push_back(std::move(offer));
}

void replication::end_pass(time_point now) {
  in_pass_ = false;
  patrolling_ = !incomplete_;
  next_pass_ = now + (incomplete_ ? options_.retry : options_.patrol);
}

}  // namespace weft::machines
