#include <weft/machines/succession.hpp>

#include <algorithm>

namespace weft::machines {

succession::succession(succession_options options, time_point now)
    : options_(options), started_(now), next_round_(now), asked_(options.candidates) {}

std::vector<succession_action> succession::tick(const candidate_state& own, bool in_good_standing,
                                                time_point now) {
  if (role_ == succession_role::following) {
    if (in_good_standing || now - followed_since_ < options_.follow_patience) return {};
    return on_coordinator_lost(own, now);
  }
  std::vector<succession_action> actions;
  if (in_round_ && now >= round_ends_) end_round(actions, own, now);
  if (role_ != succession_role::following && !in_round_ && now >= next_round_) begin_round(actions, own, now);
  return actions;
}

std::vector<succession_action> succession::on_answer(std::uint64_t round, unsigned rank,
                                                     const candidate_state& answer,
                                                     const candidate_state& own, time_point now) {
  std::vector<succession_action> actions;
  if (!in_round_ || round != round_ || rank >= asked_.size() || !asked_[rank].open) return actions;
  asked_[rank] = {.open = false, .answer = answer};
  end_if_complete(actions, own, now);
  return actions;
}

std::vector<succession_action> succession::on_no_answer(std::uint64_t round, unsigned rank,
                                                        const candidate_state& own, time_point now) {
  std::vector<succession_action> actions;
  if (!in_round_ || round != round_ || rank >= asked_.size() || !asked_[rank].open) return actions;
  asked_[rank].open = false;
  end_if_complete(actions, own, now);
  return actions;
}

std::vector<succession_action> succession::on_coordinator_lost(const candidate_state& own, time_point now) {
  std::vector<succession_action> actions;
  if (role_ != succession_role::following) return actions;
  role_ = succession_role::seeking;
  followed_.reset();
  begin_round(actions, own, now);
  return actions;
}

std::vector<succession_action> succession::on_view_of(unsigned rank, time_point now) {
  std::vector<succession_action> actions;
  if (options_.rank == rank || followed_ == rank) return actions;
  if (role_ == succession_role::leading) actions.push_back(step_down{});
  start_following(actions, rank, now);
  return actions;
}

void succession::begin_round(std::vector<succession_action>& actions, const candidate_state& own,
                             time_point now) {
  ++round_;
  in_round_ = true;
  round_ends_ = now + options_.answer_timeout;
  for (unsigned rank = 0; rank < asked_.size(); ++rank) {
    const bool other = options_.rank != rank;
    asked_[rank] = {.open = other, .answer = std::nullopt};
    if (other) actions.push_back(ask_candidate{.round = round_, .rank = rank});
  }
  end_if_complete(actions, own, now);  // a candidate alone asks nobody
}

void succession::end_if_complete(std::vector<succession_action>& actions, const candidate_state& own,
                                 time_point now) {
  if (std::ranges::none_of(asked_, &asked::open)) end_round(actions, own, now);
}

void succession::end_round(std::vector<succession_action>& actions, const candidate_state& own,
                           time_point now) {
  in_round_ = false;
  if (role_ == succession_role::leading) {
    next_round_ = now + options_.watch_interval;
    return give_way(actions, own, now);
  }
  next_round_ = now + options_.round_interval;
  if (const auto rank = leader()) return start_following(actions, *rank, now);
  if (somebody_hears(own) || !is_best(own) || !may_start(own, now)) return;
  const bool lost_is_dead = std::ranges::none_of(
      asked_, [&](const asked& a) { return a.answer && a.answer->self == own.coordinator; });
  role_ = succession_role::leading;
  next_round_ = now + options_.watch_interval;
  actions.push_back(lead{.lost_is_dead = lost_is_dead && own.coordinator != own.self});
}

void succession::give_way(std::vector<succession_action>& actions, const candidate_state& own,
                          time_point now) {
  const auto other = leader();
  if (!other || asked_[*other].answer->epoch < own.epoch) return;
  actions.push_back(step_down{});
  start_following(actions, *other, now);
}

// The one with the latest view, where several lead.
std::optional<unsigned> succession::leader() const {
  std::optional<unsigned> best;
  for (unsigned rank = 0; rank < asked_.size(); ++rank) {
    const auto& answer = asked_[rank].answer;
    if (!answer || !answer->leads) continue;
    if (!best || answer->epoch > asked_[*best].answer->epoch) best = rank;
  }
  return best;
}

// Of a former life of this node nothing more is heard, whoever believes it.
bool succession::somebody_hears(const candidate_state& own) const {
  return std::ranges::any_of(asked_, [&](const asked& a) {
    return a.answer && a.answer->hears && a.answer->coordinator.node != own.self.node;
  });
}

bool succession::is_best(const candidate_state& own) const {
  if (!options_.rank) return false;
  for (unsigned rank = 0; rank < asked_.size(); ++rank) {
    const auto& answer = asked_[rank].answer;
    if (!answer) continue;
    if (answer->epoch > own.epoch || (answer->epoch == own.epoch && rank < *options_.rank)) return false;
  }
  return true;
}

bool succession::may_start(const candidate_state& own, time_point now) const {
  if (own.epoch != 0) return true;
  if (*options_.rank != 0) return now - started_ >= options_.start_patience;
  const bool all_heard = std::ranges::none_of(asked_, &asked::open);
  return all_heard || now - started_ >= options_.first_patience;
}

void succession::start_following(std::vector<succession_action>& actions, unsigned rank, time_point now) {
  followed_since_ = now;
  role_ = succession_role::following;
  followed_ = rank;
  in_round_ = false;
  actions.push_back(follow{.rank = rank});
}

}  // namespace weft::machines
