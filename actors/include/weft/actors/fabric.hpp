// The fabric actor: turns node ids into connections and transfers into messages.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/fabric/transport.hpp>

#include <caf/actor_system.hpp>

#include <memory>

namespace weft::actors {

// `transport` is called from the actor only and calls back from its own thread. It must be destroyed before
// the actor system and after nobody waits for a fetch any more.
fabric_actor spawn_fabric(caf::actor_system& system, std::shared_ptr<fabric::transport> transport);

}  // namespace weft::actors
