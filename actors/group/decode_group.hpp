// A decode node that belongs to a group: takes questions like any other, and has them answered by the whole
// group.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/actors/node_config.hpp>
#include <weft/actors/work.hpp>

#include <caf/actor_system.hpp>

#include "rank_threads.hpp"

#include <memory>

namespace weft::actors {

using rank_news_ptr = std::shared_ptr<const rank_news>;

// The first of the group's live nodes, in the cluster file's order, leads: it asks the others for seats,
// makes the group out of as many as the model can be cut for, and answers questions with it. The others hand
// theirs to it. When a rank is lost, or one that was lost is back, the group is made anew; questions that
// lost their group are asked again of the next.
using local_group_actor =
    local_decode_actor::extend<caf::replies_to<seat_atom, group_round>::with<std::string>,
                               caf::reacts_to<join_atom, group_roster>,
                               // From the threads that join groups (sent to itself).
                               caf::reacts_to<ready_atom, rank_news_ptr>,
                               // Time to try again (sent to itself).
                               caf::reacts_to<tick_atom>>;

// `parts` without an engine. `device`: that the node's part of the model runs on; null: its CPU.
local_group_actor spawn_decode_group(caf::actor_system& system, const node_config& config, work_parts parts,
                                     std::shared_ptr<const engine::compute_device> device);

}  // namespace weft::actors
