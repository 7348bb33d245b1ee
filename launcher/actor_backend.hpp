// The gateway's backend over a node of this process: RPC requests become messages to its gateway actor.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/launcher/gateway/backend.hpp>

#include <caf/actor_system.hpp>

#include <memory>

namespace weft::launcher {

// The actor system must outlive it.
std::shared_ptr<gateway::backend> make_actor_backend(caf::actor_system& system, actors::gateway_actor gateway,
                                                     actors::node_actor node);

}  // namespace weft::launcher
