#include <weft/machines/enrolment.hpp>

#include <algorithm>
#include <utility>

namespace weft::machines {
namespace {

constexpr std::size_t max_outstanding = 64;

}  // namespace

enrolment::enrolment(member self, enrolment_options options) : self_(std::move(self)), options_(options) {}

std::vector<enrolment_action> enrolment::tick(time_point now) {
  std::vector<enrolment_action> actions;
  if (state_ == enrolment_state::active && !in_good_standing(now)) {
    state_ = enrolment_state::isolated;
    actions.push_back(became_isolated{});
  }
  if (!next_send_ || now >= *next_send_) send(actions, now);
  return actions;
}

std::vector<enrolment_action> enrolment::on_answer(std::uint64_t ticket, const membership_answer& answer,
                                                   time_point now) {
  std::vector<enrolment_action> actions;
  const std::optional<sent> message = take_sent(ticket);
  // What is said to a former life is history.
  if (!message || message->incarnation != self_.ref.incarnation) return actions;
  switch (answer.verdict) {
    case standing::accepted:
      accepted(actions, *message, now);
      break;
    case standing::fenced:
      rejoin(actions, answer.incarnation_floor, now);
      break;
    case standing::unknown:
      forgotten(actions, now);
      break;
    case standing::not_coordinator:
      on_connection_lost();
      actions.push_back(lost_coordinator{});
      break;
  }
  return actions;
}

std::vector<enrolment_action> enrolment::on_view(const view& v, time_point now) {
  std::vector<enrolment_action> actions;
  if (v.epoch <= view_.epoch) return actions;
  view_difference change = difference(view_, v);
  view_ = v;
  actions.push_back(adopted_view{std::move(change)});
  // A view without this node may mean that it was declared dead: the coordinator's answer will tell.
  if (state_ != enrolment_state::joining && find(view_, self_.ref) == nullptr) send(actions, now);
  return actions;
}

void enrolment::on_connection_lost() {
  outstanding_.clear();
  next_send_.reset();
}

bool enrolment::in_good_standing(time_point now) const {
  return state_ == enrolment_state::active && lease_end_ && now < *lease_end_;
}

std::optional<time_point> enrolment::last_accepted() const {
  if (!lease_end_) return std::nullopt;
  return *lease_end_ - options_.lease;
}

std::optional<time_point> enrolment::next_deadline() const {
  if (state_ != enrolment_state::active || !next_send_) return next_send_;
  return std::min(*next_send_, *lease_end_);
}

std::uint64_t enrolment::note_sent(time_point now) {
  if (outstanding_.size() == max_outstanding) outstanding_.pop_front();
  outstanding_.push_back({next_ticket_, self_.ref.incarnation, now});
  return next_ticket_++;
}

std::optional<enrolment::sent> enrolment::take_sent(std::uint64_t ticket) {
  const auto at = std::ranges::find(outstanding_, ticket, &sent::ticket);
  if (at == outstanding_.end()) return std::nullopt;
  const sent message = *at;
  outstanding_.erase(at);
  return message;
}

void enrolment::send(std::vector<enrolment_action>& actions, time_point now) {
  const std::uint64_t ticket = note_sent(now);
  if (state_ == enrolment_state::joining) {
    actions.push_back(send_join{
        .ticket = ticket, .who = self_, .known_epoch = view_.epoch, .known_from = view_.coordinator});
    next_send_ = now + options_.join_interval;
  } else {
    actions.push_back(send_heartbeat{
        .ticket = ticket, .from = self_.ref, .known_epoch = view_.epoch, .known_from = view_.coordinator});
    next_send_ = now + options_.heartbeat_interval;
  }
}

void enrolment::accepted(std::vector<enrolment_action>& actions, const sent& message, time_point now) {
  const time_point lease_end = message.at + options_.lease;
  lease_end_ = lease_end_ ? std::max(*lease_end_, lease_end) : lease_end;
  if (state_ == enrolment_state::active) return;
  if (now >=
      *lease_end_) {  // an answer from long ago: known to the coordinator, but alive only for a newer one
    state_ = enrolment_state::isolated;
    return;
  }
  if (state_ == enrolment_state::joining) next_send_ = now + options_.heartbeat_interval;
  state_ = enrolment_state::active;
  actions.push_back(became_active{});
}

void enrolment::forgotten(std::vector<enrolment_action>& actions, time_point now) {
  if (state_ == enrolment_state::joining) return;  // the next attempt is on its way
  rejoin(actions, 0, now);
}

void enrolment::rejoin(std::vector<enrolment_action>& actions, std::uint64_t floor, time_point now) {
  const node_ref former = self_.ref;
  self_.ref.incarnation = std::max(self_.ref.incarnation + 1, floor);
  state_ = enrolment_state::joining;
  lease_end_.reset();
  actions.push_back(became_fenced{.former = former, .next = self_.ref});
  send(actions, now);
}

}  // namespace weft::machines
