// What the nodes of a test's two processes have in common.
#pragma once

#include <weft/actors/node_config.hpp>
#include <weft/actors/system_config.hpp>
#include <weft/fabric/ucx_transport.hpp>

#include <caf/actor_system_config.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace weft::testing {

struct system_with_weft : caf::actor_system_config {
  system_with_weft() { actors::prepare(*this, {}); }
};

// Blocks are short, so that there are some; nobody is given up because a machine is slow.
inline actors::node_config node_of_two(std::string name, std::vector<actors::role> roles) {
  actors::node_config config;
  config.name = std::move(name);
  config.roles = std::move(roles);
  config.model_folder = WEFT_SOURCE_DIR "/models/recall";
  config.threads = 1;
  config.block_tokens = 16;
  config.dram_bytes = 64 << 20;
  config.staging_bytes = 16 << 20;
  config.heartbeat_interval = std::chrono::milliseconds{100};
  config.liveness_timeout = std::chrono::minutes{1};
  config.read_deadline = std::chrono::minutes{1};
  config.lease_duration = std::chrono::minutes{2};
  return config;
}

// As between hosts: nobody reads another's memory but by gets.
inline result<std::shared_ptr<fabric::transport>> transport_of_gets(const actors::node_config& config) {
  fabric::ucx_options options;
  options.arena_bytes = config.staging_bytes + config.dram_bytes;
  options.transports = "shm";
  options.map_peer_arenas = false;
  return fabric::make_ucx_transport(options);
}

}  // namespace weft::testing
