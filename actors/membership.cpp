#include <weft/actors/control.hpp>
#include <weft/machines/membership.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <functional>
#include <optional>
#include <utility>

namespace weft::actors {

namespace {

struct membership_state {
  static inline const char* name = "membership";

  clock_source clock;
  machines::membership_options options;
  std::optional<machines::membership> machine;  // while this node leads
  std::function<void(const machines::view&)> announce;
};

using self_pointer = local_membership_actor::stateful_pointer<membership_state>;

void announce_view(const membership_state& state) {
  state.announce(state.machine->current());
}

membership_reply reply(const membership_state& state, const machines::membership_answer& answer) {
  if (answer.view_changed) announce_view(state);
  return {answer, answer.send_view ? state.machine->current() : machines::view{}};
}

membership_reply not_here() {
  return {{.verdict = machines::standing::not_coordinator}, {}};
}

void take_over(membership_state& state, const lead_order& order) {
  auto options = state.options;
  options.coordinator = order.self;
  options.epoch_step = machines::max_candidates;
  options.epoch_remainder = order.rank;
  state.announce = order.announce;
  if (order.inherited.epoch == 0) {
    state.machine.emplace(options, state.clock());
  } else {
    state.machine.emplace(options, order.inherited, state.clock());
    announce_view(state);
  }
}

local_membership_actor::behavior_type behave(self_pointer self, const node_config& config,
                                             clock_source clock) {
  self->state.clock = std::move(clock);
  self->state.options.liveness_timeout = config.liveness_timeout;
  self->state.options.longest_pause = config.heartbeat_interval;
  self->state.options.suspicion = config.liveness_timeout / 2;
  const auto tick_interval = config.heartbeat_interval / 2;
  self->delayed_send(self, tick_interval, tick_atom_v);
  return {
      [self](join_atom, const join_request& request) -> membership_reply {
        auto& state = self->state;
        if (!state.machine) return not_here();
        return reply(
            state, state.machine->join(request.who, request.known_epoch, state.clock(), request.known_from));
      },
      [self](heartbeat_atom, const heartbeat& beat) -> membership_reply {
        auto& state = self->state;
        if (!state.machine) return not_here();
        return reply(state,
                     state.machine->heartbeat(beat.from, beat.known_epoch, state.clock(), beat.known_from));
      },
      [self](leave_atom, const machines::node_ref& who) {
        auto& state = self->state;
        if (state.machine && state.machine->leave(who, state.clock())) announce_view(state);
      },
      [self, tick_interval](tick_atom) {
        auto& state = self->state;
        if (state.machine && state.machine->tick(state.clock()).view_changed) announce_view(state);
        self->delayed_send(self, tick_interval, tick_atom_v);
      },
      [self](lead_atom, const lead_order& order) { take_over(self->state, order); },
      [self](retire_atom) { self->state.machine.reset(); },
      [self](suspect_atom, const machines::node_ref& who) {
        auto& state = self->state;
        if (state.machine) state.machine->suspect(who, state.clock());
      },
  };
}

}  // namespace

local_membership_actor spawn_membership(caf::actor_system& system, const node_config& config,
                                        clock_source clock) {
  return system.spawn(behave, config, std::move(clock));
}

}  // namespace weft::actors
