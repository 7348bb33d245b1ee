#include <weft/actors/errors.hpp>

#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <spdlog/spdlog.h>

#include "node_state.hpp"

#include <algorithm>
#include <utility>

namespace weft::actors {

namespace {

// A coordinator is taken for heard of when it answered a message that was sent so few beats ago.
constexpr int beats_heard_of = 3;

// The end of a link's life: its round need not wait for it.
constexpr auto answer_timeout = std::chrono::milliseconds{200};

void carry_out(node_pointer self, const std::vector<machines::succession_action>& actions);

void no_answer(node_pointer self, std::uint64_t round, unsigned rank) {
  auto& state = self->state;
  carry_out(self,
            state.succession->on_no_answer(round, rank, describe_candidate(state), state.parts.clock()));
}

void answered(node_pointer self, std::uint64_t round, unsigned rank,
              const machines::candidate_state& answer) {
  auto& state = self->state;
  // An address may have been given to another node meanwhile.
  if (answer.self.node != state.parts.candidates[rank]) {
    state.candidates[rank] = {};
    return no_answer(self, round, rank);
  }
  carry_out(self,
            state.succession->on_answer(round, rank, answer, describe_candidate(state), state.parts.clock()));
}

void ask(node_pointer self, std::uint64_t round, unsigned rank) {
  auto& link = self->state.candidates[rank];
  self->request(link.node, answer_timeout, lead_atom_v)
      .then([self, round,
             rank](const machines::candidate_state& answer) { answered(self, round, rank, answer); },
            [self, round, rank, asked = link.node](const caf::error&) {
              auto& now = self->state.candidates[rank];
              if (now.node == asked) now = {};
              no_answer(self, round, rank);
            });
}

// Where the candidate listens: as configured, or where it was when it was last in the view.
std::optional<std::pair<std::string, std::uint16_t>> address_of(const node_state& state, unsigned rank) {
  if (auto address = state.parts.candidate_address(rank)) return address;
  const auto* known = machines::find(state.enrolment->current(), state.parts.candidates[rank]);
  if (known == nullptr) return std::nullopt;
  return std::pair{known->host, known->control_port};
}

// False where nobody knows how to. One that connects to this node is waited for.
bool reach(node_pointer self, unsigned rank) {
  auto& state = self->state;
  auto& link = state.candidates[rank];
  if (link.connecting) return true;
  const auto caller = state.callers.find(state.parts.candidates[rank]);
  if (caller != state.callers.end()) {
    candidate_reached(self, rank, caller->second);
    return true;
  }
  const auto address = address_of(state, rank);
  if (!address || !connects_to(state, state.parts.candidates[rank])) return address.has_value();
  link.connecting = true;
  open_link(self, rank, address->first, address->second);
  return true;
}

// Speaks to the coordinator that is followed as soon as there is a way to it.
void attach(node_pointer self) {
  auto& state = self->state;
  const auto rank = state.succession->followed();
  if (!rank || state.coordinator) return;
  auto& link = state.candidates[*rank];
  if (!link.membership) {
    if (!link.node) reach(self, *rank);
    return;
  }
  state.coordinator = link.membership;
  state.enrolment->on_connection_lost();
  carry_out(self, state.enrolment->tick(state.parts.clock()));
}

void take_over(node_pointer self, bool lost_is_dead) {
  auto& state = self->state;
  auto inherited = state.enrolment->current();
  if (lost_is_dead)
    std::erase_if(inherited.members, [&](const auto& m) { return m.ref == inherited.coordinator; });
  if (inherited.epoch != 0)
    spdlog::warn("{}: the coordinator is gone; this node takes over", state.config.name);
  lead_order order{.self = state.enrolment->self().ref,
                   .rank = *state.parts.rank,
                   .inherited = std::move(inherited),
                   .announce = [me = caf::actor_cast<node_port>(self)](const machines::view& v) {
                     caf::anon_send(me, publish_atom_v, v);
                   }};
  self->send(state.parts.membership, lead_atom_v, std::move(order));
  state.coordinator = state.parts.membership;
  state.enrolment->on_connection_lost();
  carry_out(self, state.enrolment->tick(state.parts.clock()));
}

void start_to_follow(node_pointer self, unsigned rank) {
  auto& state = self->state;
  spdlog::debug("{}: candidate {} holds the membership", state.config.name, rank);
  state.coordinator = membership_actor{};
  attach(self);
}

void carry_out(node_pointer self, const std::vector<machines::succession_action>& actions) {
  auto& state = self->state;
  for (const auto& action : actions) {
    if (const auto* candidate = std::get_if<machines::ask_candidate>(&action)) {
      auto& link = state.candidates[candidate->rank];
      link.asked_in = candidate->round;
      if (link.node) {
        ask(self, candidate->round, candidate->rank);
      } else if (!reach(self, candidate->rank)) {
        no_answer(self, candidate->round, candidate->rank);
      }
    } else if (const auto* lead = std::get_if<machines::lead>(&action)) {
      take_over(self, lead->lost_is_dead);
    } else if (const auto* follow = std::get_if<machines::follow>(&action)) {
      start_to_follow(self, follow->rank);
    } else {
      spdlog::warn("{}: another node holds the membership, too; stepping down", state.config.name);
      self->send(state.parts.membership, retire_atom_v);
    }
  }
}

// A candidate that is not there is ordinary life; one that refuses this node is worth a line, not one for
// each try.
void say_once(const node_state& state, candidate_link& link, const error& why) {
  if (why.code != errc::invalid_argument || std::exchange(link.complaint, why.context) == why.context) return;
  spdlog::warn("{}: cannot reach a candidate for the membership, trying on: {}", state.config.name,
               why.context);
}

}  // namespace

machines::candidate_state describe_candidate(const node_state& state) {
  const auto role = state.succession->role();
  const auto accepted = state.enrolment->last_accepted();
  const bool heard =
      accepted && state.parts.clock() - *accepted < beats_heard_of * state.config.heartbeat_interval;
  return {.self = state.enrolment->self().ref,
          .leads = role == machines::succession_role::leading,
          .hears = role == machines::succession_role::following && heard,
          .coordinator = state.enrolment->current().coordinator,
          .epoch = state.enrolment->current().epoch};
}

void tick_succession(node_pointer self) {
  auto& state = self->state;
  const auto now = state.parts.clock();
  carry_out(self,
            state.succession->tick(describe_candidate(state), state.enrolment->in_good_standing(now), now));
  if (state.succession->role() == machines::succession_role::seeking) state.coordinator = membership_actor{};
  attach(self);
}

void coordinator_lost(node_pointer self) {
  auto& state = self->state;
  if (state.leaving || state.succession->role() != machines::succession_role::following) return;
  state.coordinator = membership_actor{};
  state.enrolment->on_connection_lost();
  carry_out(self, state.succession->on_coordinator_lost(describe_candidate(state), state.parts.clock()));
}

void follow_publisher(node_pointer self, const machines::node_ref& coordinator) {
  auto& state = self->state;
  const auto& all = state.parts.candidates;
  const auto found = std::ranges::find(all, coordinator.node);
  if (found == all.end()) return;
  carry_out(self,
            state.succession->on_view_of(static_cast<unsigned>(found - all.begin()), state.parts.clock()));
}

void candidate_reached(node_pointer self, unsigned rank, const result<node_actor>& node) {
  auto& state = self->state;
  auto& link = state.candidates[rank];
  link.connecting = false;
  if (!node) {
    say_once(state, link, node.error());
    const auto round = std::exchange(link.asked_in, std::nullopt);
    if (round) no_answer(self, *round, rank);
    return;
  }
  link.node = *node;
  self->monitor(link.node);
  self->request(link.node, roles_timeout, roles_atom_v)
      .then(
          [self, rank, node = *node](const role_handles& roles) {
            auto& now = self->state.candidates[rank];
            if (now.node != node) return;
            now.membership = roles.membership;
            attach(self);
          },
          [self, rank, node = *node](const caf::error&) {
            auto& now = self->state.candidates[rank];
            if (now.node == node) now = {};
          });
  if (link.asked_in) ask(self, *link.asked_in, rank);
}

void candidate_called(node_pointer self, const id128& node) {
  const auto& all = self->state.parts.candidates;
  const auto found = std::ranges::find(all, node);
  if (found == all.end()) return;
  const auto rank = static_cast<unsigned>(found - all.begin());
  if (!self->state.candidates[rank].node) reach(self, rank);
}

void forget_candidate(node_pointer self, const caf::actor_addr& gone) {
  auto& state = self->state;
  for (unsigned rank = 0; rank < state.candidates.size(); ++rank) {
    auto& link = state.candidates[rank];
    if (!link.node || link.node.address() != gone) continue;
    link = {};
    if (state.succession && state.succession->followed() == rank) coordinator_lost(self);
  }
}

}  // namespace weft::actors
