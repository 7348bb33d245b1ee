// The actors that keep the cluster's books: membership, directory shards, storage. Thin shells around
// weft::machines.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/actors/node_config.hpp>
#include <weft/base/time.hpp>

#include <caf/actor_system.hpp>

#include <functional>

namespace weft::tier {
struct opened_tier;
}

namespace weft::actors {

// Where actors get the time from: the steady clock, or a simulation's.
using clock_source = std::function<time_point()>;

// Holds nothing until it is told to lead.
local_membership_actor spawn_membership(caf::actor_system& system, const node_config& config,
                                        clock_source clock);

directory_actor spawn_directory(caf::actor_system& system, const node_config& config, clock_source clock);

// Blocks live in [staging_bytes, staging_bytes + dram_bytes) of the arena. `file`: the tier below, or null;
// its device must be destroyed before the arena.
local_storage_actor spawn_storage(caf::actor_system& system, const node_config& config, fabric_actor fabric,
                                  std::span<std::byte> arena, clock_source clock,
                                  std::shared_ptr<tier::opened_tier> file);

}  // namespace weft::actors
