#include <weft/machines/membership.hpp>

#include <algorithm>
#include <limits>

namespace weft::machines {
namespace {

std::uint64_t after(std::uint64_t incarnation) {
  return incarnation == std::numeric_limits<std::uint64_t>::max() ? incarnation : incarnation + 1;
}

void put(view& v, const member& who) {
  const auto at = std::ranges::lower_bound(v.members, who.name, {}, &member::name);
  if (at != v.members.end() && at->name == who.name) {
    *at = who;
  } else {
    v.members.insert(at, who);
  }
}

}  // namespace

membership::membership(membership_options options, time_point now)
    : options_(options), started_(now), last_call_(now) {
  view_.coordinator = options_.coordinator;
}

membership::membership(membership_options options, const view& inherited, time_point now)
    : membership(options, now) {
  inherited_ = inherited.epoch != 0;
  view_.members = inherited.members;
  view_.epoch = inherited_ ? epoch_above(inherited.epoch) : 0;
  for (const member& m : view_.members)
    records_[m.name] = {.ref = m.ref, .alive = true, .heard = now};
}

membership_answer membership::join(const member& who, std::uint64_t known_epoch, time_point now,
                                   const node_ref& known_from) {
  forgive_own_pause(now);
  bool changed = lift_above(known_epoch, known_from, now);

  const auto at = records_.find(who.name);
  const bool known = at != records_.end();
  if (known && at->second.alive && at->second.ref == who.ref) {
    at->second.heard = now;
    const member* listed = find(view_, who.ref);
    if (listed != nullptr && !(*listed == who)) {  // the same life under another address
      put(view_, who);
      next_epoch();
      changed = true;
    }
    return answer(standing::accepted, &at->second, known_epoch, changed, now);
  }
  if (known && who.ref.incarnation <= at->second.ref.incarnation) {
    return answer(standing::fenced, &at->second, known_epoch, changed, now);
  }
  if (record* same_node = find_record(who.ref.node); same_node != nullptr) {
    if (who.ref.incarnation <= same_node->ref.incarnation) {
      return answer(standing::fenced, same_node, known_epoch, changed, now);
    }
    declare_dead(*same_node);
  }

  record& r = records_[who.name];
  r = {.ref = who.ref, .alive = true, .heard = now};
  put(view_, who);
  next_epoch();
  return answer(standing::accepted, &r, known_epoch, true, now);
}

membership_answer membership::heartbeat(const node_ref& from, std::uint64_t known_epoch, time_point now,
                                        const node_ref& known_from) {
  forgive_own_pause(now);
  const bool changed = lift_above(known_epoch, known_from, now);
  record* r = find_record(from.node);
  if (r == nullptr || from.incarnation > r->ref.incarnation) {
    return answer(standing::unknown, nullptr, known_epoch, changed, now);
  }
  if (from.incarnation < r->ref.incarnation || !r->alive) {
    return answer(standing::fenced, r, known_epoch, changed, now);
  }
  r->heard = now;
  return answer(standing::accepted, r, known_epoch, changed, now);
}

bool membership::leave(const node_ref& who, time_point now) {
  forgive_own_pause(now);
  record* r = find_record(who.node);
  if (r == nullptr || !r->alive || r->ref != who) return false;
  declare_dead(*r);
  return !settling(now);
}

void membership::suspect(const node_ref& who, time_point now) {
  record* r = find_record(who.node);
  if (r == nullptr || !r->alive || r->ref != who) return;
  r->heard = std::min(r->heard, now - options_.liveness_timeout + options_.suspicion);
}

membership_changes membership::tick(time_point now) {
  forgive_own_pause(now);
  membership_changes changes;
  for (auto& [name, r] : records_) {
    if (r.alive && now - r.heard >= options_.liveness_timeout) {
      changes.dead.push_back(r.ref);
      declare_dead(r);
    }
  }
  const bool settled_now = settles_at_ && now >= *settles_at_;
  if (settled_now) settles_at_.reset();
  changes.view_changed = settled_now || (!changes.dead.empty() && !settling(now));
  return changes;
}

std::optional<time_point> membership::next_deadline() const {
  std::optional<time_point> next = settles_at_;
  for (const auto& [name, r] : records_) {
    if (!r.alive) continue;
    const time_point silent_at = r.heard + options_.liveness_timeout;
    if (!next || silent_at < *next) next = silent_at;
  }
  return next;
}

std::uint64_t membership::epoch_above(std::uint64_t epoch) const {
  const std::uint64_t next = epoch + 1;
  const std::uint64_t over = (next + options_.epoch_step - options_.epoch_remainder) % options_.epoch_step;
  return over == 0 ? next : next + options_.epoch_step - over;
}

void membership::forgive_own_pause(time_point now) {
  const duration pause = now - last_call_;
  last_call_ = std::max(last_call_, now);
  if (pause <= options_.longest_pause) return;
  const duration excess = pause - options_.longest_pause;
  for (auto& [name, r] : records_)
    r.heard = std::min(now, r.heard + excess);
}

bool membership::lift_above(std::uint64_t known_epoch, const node_ref& known_from, time_point now) {
  const bool same_of_another =
      known_epoch == view_.epoch && known_from.node && known_from != options_.coordinator;
  if (known_epoch < view_.epoch || (known_epoch == view_.epoch && !same_of_another)) return false;
  view_.epoch = epoch_above(known_epoch);
  const bool takeover = !inherited_ && now - started_ < options_.liveness_timeout;
  if (takeover) settles_at_ = started_ + options_.liveness_timeout;
  return true;
}

bool membership::settling(time_point now) const {
  return settles_at_ && now < *settles_at_;
}

void membership::declare_dead(record& r) {
  if (!r.alive) return;
  r.alive = false;
  std::erase_if(view_.members, [&](const member& m) { return m.ref == r.ref; });
  next_epoch();
}

membership::record* membership::find_record(const id128& node) {
  record* latest = nullptr;
  for (auto& [name, r] : records_) {
    if (r.ref.node != node) continue;
    if (latest == nullptr || r.ref.incarnation > latest->ref.incarnation) latest = &r;
  }
  return latest;
}

membership_answer membership::answer(standing verdict, const record* r, std::uint64_t known_epoch,
                                     bool changed, time_point now) const {
  const bool quiet = settling(now);
  return {.verdict = verdict,
          .incarnation_floor = r == nullptr ? 0 : after(r->ref.incarnation),
          .epoch = view_.epoch,
          .view_changed = changed && !quiet,
          .send_view = !quiet && known_epoch < view_.epoch};
}

}  // namespace weft::machines
