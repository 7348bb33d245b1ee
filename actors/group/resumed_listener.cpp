#include "resumed_listener.hpp"

#include <weft/actors/inspect.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <cstdint>
#include <utility>

namespace weft::actors {

namespace {

struct resumed_state {
  static inline const char* name = "resumed_listener";
  std::uint64_t told = 0;
  std::uint64_t come = 0;  // of the answer as it is given now
};

using self_pointer = resumed_listener::stateful_pointer<resumed_state>;

resumed_listener::behavior_type behave(self_pointer self, answer_listener listener) {
  self->monitor(listener);
  self->set_down_handler([self](const caf::down_msg&) { self->quit(); });
  return {
      [self, listener = std::move(listener)](token_atom, const answer_piece& piece) {
        auto& state = self->state;
        if (++state.come <= state.told) return;
        state.told = state.come;
        self->send(listener, token_atom_v, piece);
      },
      [self](open_atom) { self->state.come = 0; },
  };
}

}  // namespace

resumed_listener spawn_resumed_listener(caf::actor_system& system, answer_listener listener) {
  return system.spawn(behave, std::move(listener));
}

}  // namespace weft::actors
