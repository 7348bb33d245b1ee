// Gathers what actors say of themselves into one report; who does not answer in time is left out, not waited
// for.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/engine/compute_device.hpp>

#include <caf/actor_system.hpp>

#include <memory>
#include <vector>

namespace weft::actors {

struct status_parts {
  machines::member self;
  storage_actor storage;  // null: not a storage node
  fabric_actor fabric;
  pool_actor pool;
  care_actor care;                                       // null: not a storage node
  retrieval_actor retrieval;                             // null: not a retrieval node
  local_decode_actor decode;                             // null: not a decode node
  rescoring_actor rescoring;                             // null: nothing is scored in the background
  std::shared_ptr<const engine::compute_device> device;  // null: the CPU
};

using node_gatherer = caf::typed_actor<caf::replies_to<status_atom>::with<node_report>>;

node_gatherer spawn_node_gatherer(caf::actor_system& system, status_parts parts);

struct status_source {
  machines::member member;
  node_actor node;  // null: not reached
};

using cluster_gatherer = caf::typed_actor<caf::replies_to<status_atom>::with<cluster_report>>;

cluster_gatherer spawn_cluster_gatherer(caf::actor_system& system, std::uint64_t epoch,
                                        std::vector<status_source> nodes);

}  // namespace weft::actors
