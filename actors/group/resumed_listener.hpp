// Stands before a question's listener when the answer may begin anew: what was told already is not told
// again.
#pragma once

#include <weft/actors/answer_listener.hpp>

#include <caf/actor_system.hpp>

namespace weft::actors {

// Ends with the listener, or when it is told to exit.
using resumed_listener = answer_listener::extend<
    // The answer begins anew.
    caf::reacts_to<open_atom>>;

resumed_listener spawn_resumed_listener(caf::actor_system& system, answer_listener listener);

}  // namespace weft::actors
