// The actors of one node, put together. `node` does it for a real process; simulations do it for many nodes
// in one.
#pragma once

#include <weft/actors/block_pool.hpp>
#include <weft/actors/control.hpp>
#include <weft/actors/device_landing.hpp>
#include <weft/actors/interfaces.hpp>
#include <weft/actors/model_context.hpp>
#include <weft/actors/node_config.hpp>
#include <weft/actors/remoting.hpp>
#include <weft/actors/staging.hpp>
#include <weft/actors/work.hpp>
#include <weft/base/error.hpp>
#include <weft/fabric/transport.hpp>

#include <caf/actor_system.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace weft::tier {
struct opened_tier;
}

namespace weft::actors {

// What a node is made of besides its configuration. Every part that is not given is made as for a real
// process: UCX, the middleman, the steady clock, a thread for the engine. Simulations give their own.
struct node_environment {
  std::shared_ptr<fabric::transport> transport;
  std::shared_ptr<remoting> network;
  clock_source clock;
  std::function<std::optional<std::pair<std::string, std::uint16_t>>(unsigned)> candidate_address;  // by rank
  std::shared_ptr<engine::runner>
      model;  // of `config.model_folder`; one may serve several nodes only on one thread
  std::shared_ptr<const engine::compute_device> device;  // that the model runs on; null: the CPU
  device_on_host likeness = {};                          // of a device that is one
  engine_thread thread = engine_thread::own;
  std::shared_ptr<tier::opened_tier>
      file;                       // of `config.file_folder`; null: opened where the config names one
  std::uint64_t incarnation = 0;  // 0: from the wall clock
};

struct node_actors {
  node_actor node;
  gateway_actor gateway;  // null for a node without a model
  pool_actor pool;
  storage_actor storage;                   // null for a node that stores nothing
  std::shared_ptr<block_pool> blocks;      // behind the pool actor
  std::shared_ptr<staging> room;           // the pool's
  std::vector<caf::strong_actor_ptr> all;  // in the order in which they are ended
};

// `environment` is complete but for the model of a node that needs none. The node joins when it is sent
// `join_atom` with the port that it was published at.
result<node_actors> assemble_node(caf::actor_system& system, const node_config& config,
                                  const node_environment& environment);

std::uint32_t bits(const std::vector<role>& roles);
bool has(const node_config& config, role r);
bool needs_model(const node_config& config);       // or to know of it
bool runs_whole_model(const node_config& config);  // by itself

}  // namespace weft::actors
