#include <weft/actors/control.hpp>
#include <weft/machines/membership.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <utility>

namespace weft::actors {

namespace {

struct membership_state {
  static inline const char* name = "membership";

  clock_source clock;
  std::optional<machines::membership> machine;
};

using self_pointer = membership_actor::stateful_pointer<membership_state>;

membership_reply reply(const machines::membership& machine, const machines::membership_answer& answer) {
  return {answer, answer.send_view ? machine.current() : machines::view{}};
}

membership_actor::behavior_type behave(self_pointer self, const node_config& config, clock_source clock) {
  self->state.clock = std::move(clock);
  self->state.machine.emplace(machines::membership_options{.liveness_timeout = config.liveness_timeout,
                                                           .longest_pause = config.heartbeat_interval},
                              self->state.clock());
  const auto tick_interval = config.heartbeat_interval / 2;
  self->delayed_send(self, tick_interval, tick_atom_v);
  return {
      [self](join_atom, const join_request& request) {
        auto& state = self->state;
        return reply(*state.machine, state.machine->join(request.who, request.known_epoch, state.clock()));
      },
      [self](heartbeat_atom, const heartbeat& beat) {
        auto& state = self->state;
        return reply(*state.machine, state.machine->heartbeat(beat.from, beat.known_epoch, state.clock()));
      },
      [self](leave_atom, const machines::node_ref& who) {
        self->state.machine->leave(who, self->state.clock());
      },
      [self, tick_interval](tick_atom) {
        self->state.machine->tick(self->state.clock());
        self->delayed_send(self, tick_interval, tick_atom_v);
      },
  };
}

}  // namespace

membership_actor spawn_membership(caf::actor_system& system, const node_config& config, clock_source clock) {
  return system.spawn(behave, config, std::move(clock));
}

}  // namespace weft::actors
