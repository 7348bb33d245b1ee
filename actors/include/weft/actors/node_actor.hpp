// The node actor: this process's place in the cluster.
#pragma once

#include <weft/actors/control.hpp>
#include <weft/actors/interfaces.hpp>
#include <weft/actors/node_config.hpp>
#include <weft/actors/remoting.hpp>
#include <weft/machines/view.hpp>

#include <caf/actor_system.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace weft::actors {

// What the node actor works with. Handles are null where the node does not have the role.
struct node_parts {
  machines::member self;  // the control port is filled in when it is published
  role_handles roles;
  fabric_actor fabric;
  pool_actor pool;
  gateway_actor gateway;
  local_decode_actor decode;                             // null: not a decode node
  rescoring_actor rescoring;                             // null: not a prefill node, or not wanted
  std::shared_ptr<const engine::compute_device> device;  // that the model runs on; null: the CPU
  std::shared_ptr<remoting> network;
  clock_source clock;
  local_membership_actor membership;  // null: this node is no candidate
  std::optional<unsigned> rank;       // of this node among the candidates
  std::vector<id128> candidates;      // node ids, by rank
  // Where the candidate of that rank listens, as soon as it is known.
  std::function<std::optional<std::pair<std::string, std::uint16_t>>(unsigned)> candidate_address;
};

node_actor spawn_node(caf::actor_system& system, const node_config& config, node_parts parts);

// Names of the roles in `bits`, as the cluster file spells them.
std::vector<std::string> role_names(std::uint32_t bits);

}  // namespace weft::actors
