// The retrieval actor: ranks blocks of contexts for the nodes that decode over them. It reads what it ranks
// by out of the pool, which is this node's own memory for the blocks that it holds.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/actors/node_calls.hpp>
#include <weft/actors/staging.hpp>
#include <weft/base/time.hpp>

#include <caf/actor_system.hpp>

#include <memory>

namespace weft::actors {

struct retrieval_parts {
  pool_actor pool;
  std::shared_ptr<staging> room;
  duration read_timeout{};
};

local_retrieval_actor spawn_retrieval(caf::actor_system& system, retrieval_parts parts);

// Passes questions to that actor, and refuses them as `unreachable` once it has ended. Does not keep it
// alive.
node_calls::ranking ranking_of(const local_retrieval_actor& actor);

}  // namespace weft::actors
