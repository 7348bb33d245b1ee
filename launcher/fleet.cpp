#include <weft/launcher/fleet.hpp>

#include <algorithm>

namespace weft::launcher {

fleet::fleet(std::size_t children, fleet_rules rules) : rules_(rules), children_(children) {}

fleet::actions fleet::begin(time_point now) {
  actions out;
  ready_deadline_ = now + rules_.ready_within;
  for (std::size_t i = 0; i < children_.size(); ++i)
    start(i, now, out);
  return out;
}

void fleet::start(std::size_t child, time_point now, actions& out) {
  children_[child].at = phase::running;
  children_[child].started = now;
  out.push_back({fleet_action::kind::start, child});
}

void fleet::ready(std::size_t child) {
  children_[child].was_ready = true;
}

duration fleet::next_delay(member& c, time_point now) const {
  const bool was_stable = now - c.started >= rules_.stable_after;
  const bool first = c.delay == duration::zero();
  c.delay = was_stable || first ? rules_.first_delay : std::min(2 * c.delay, rules_.longest_delay);
  return c.delay;
}

fleet::actions fleet::ended(std::size_t child, child_end how, time_point now) {
  auto& c = children_[child];
  if (stopping_ || (how == child_end::done && c.was_ready)) {
    c.at = phase::ended;
    return {};
  }
  // A process killed from outside says nothing about its start; one that exits does.
  if (!c.was_ready && how != child_end::killed) {
    c.at = phase::ended;
    culprit_ = child;
    return stop_all(fleet_action::kind::terminate, now);
  }
  c.at = phase::waiting;
  c.due = now + next_delay(c, now);
  return {};
}

fleet::actions fleet::stop_all(fleet_action::kind how, time_point now) {
  actions out;
  killed_ = how == fleet_action::kind::kill;
  stopping_ = true;
  kill_deadline_ = now + rules_.grace;
  for (std::size_t i = 0; i < children_.size(); ++i) {
    if (children_[i].at == phase::running) {
      out.push_back({how, i});
    } else {
      children_[i].at = phase::ended;
    }
  }
  return out;
}

fleet::actions fleet::stop(time_point now) {
  return stop_all(stopping_ ? fleet_action::kind::kill : fleet_action::kind::terminate, now);
}

fleet::actions fleet::tick(time_point now) {
  if (stopping_) {
    if (killed_ || now < kill_deadline_) return {};
    return stop_all(fleet_action::kind::kill, now);
  }
  if (!all_ready() && now >= ready_deadline_) {
    const auto late =
        std::find_if(children_.begin(), children_.end(), [](const member& c) { return !c.was_ready; });
    culprit_ = static_cast<std::size_t>(late - children_.begin());
    culprit_was_late_ = true;
    return stop_all(fleet_action::kind::terminate, now);
  }
  actions out;
  for (std::size_t i = 0; i < children_.size(); ++i) {
    if (children_[i].at == phase::waiting && now >= children_[i].due) start(i, now, out);
  }
  return out;
}

std::optional<time_point> fleet::next_deadline() const {
  if (finished()) return std::nullopt;
  if (stopping_) return killed_ ? std::nullopt : std::optional(kill_deadline_);
  std::optional<time_point> next;
  if (!all_ready()) next = ready_deadline_;
  for (const auto& c : children_) {
    if (c.at == phase::waiting && (!next || c.due < *next)) next = c.due;
  }
  return next;
}

std::optional<time_point> fleet::restart_of(std::size_t child) const {
  const auto& c = children_[child];
  return c.at == phase::waiting ? std::optional(c.due) : std::nullopt;
}

bool fleet::all_ready() const {
  return std::all_of(children_.begin(), children_.end(), [](const member& c) { return c.was_ready; });
}

bool fleet::finished() const {
  return std::all_of(children_.begin(), children_.end(),
                     [](const member& c) { return c.at == phase::ended; });
}

}  // namespace weft::launcher
