// Looks after the blocks of a storage node in the background: makes the copies that blocks lack after a
// holder was lost, and reads what is held in memory again and again, to find what has rotted.
#pragma once

#include <weft/actors/control.hpp>
#include <weft/actors/interfaces.hpp>
#include <weft/actors/node_config.hpp>

#include <caf/actor_system.hpp>

namespace weft::actors {

struct care_parts {
  local_storage_actor storage;
  pool_actor pool;
  clock_source clock;
};

care_actor spawn_care(caf::actor_system& system, const node_config& config, care_parts parts);

}  // namespace weft::actors
