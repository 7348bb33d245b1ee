// A weft node in this process: what `weft node` runs, and what a program embeds into its own actor system.
//
//   caf::actor_system_config config;
//   weft::actors::prepare(config, {});
//   caf::actor_system system{config};
//   auto node = weft::actors::node::start(system, my_config);
//   ... caf requests to (*node)->gateway() ...
//
// The actor system must outlive the node.
#pragma once

#include <weft/actors/control.hpp>
#include <weft/actors/interfaces.hpp>
#include <weft/actors/model_context.hpp>
#include <weft/actors/node_config.hpp>
#include <weft/actors/remoting.hpp>
#include <weft/actors/work.hpp>
#include <weft/base/error.hpp>
#include <weft/fabric/transport.hpp>

#include <caf/actor_system.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace weft::actors {

// What a node is made of besides its configuration. Every part that is not given is made as for a real
// process: UCX, the middleman, the steady clock, a thread for the engine. Simulations give their own.
struct node_environment {
  std::shared_ptr<fabric::transport> transport;
  std::shared_ptr<remoting> network;
  clock_source clock;
  std::function<std::optional<std::pair<std::string, std::uint16_t>>()> seed_address;
  std::shared_ptr<engine::runner>
      model;  // of `config.model_folder`; one may serve several nodes only on one thread
  engine_thread thread = engine_thread::own;
  std::uint64_t incarnation = 0;  // 0: from the wall clock
};

class node {
 public:
  // Returns as soon as the node listens; it joins its cluster by itself. The error names what could not be
  // had: a port in use, a model folder that is none, memory.
  static result<std::unique_ptr<node>> start(caf::actor_system& system, const node_config& config,
                                             node_environment environment = {});

  // Leaves the cluster, ends the actors and closes the fabric.
  ~node();
  node(const node&) = delete;
  node& operator=(const node&) = delete;

  const node_actor& handle() const { return handle_; }
  // Null for a node without a model folder.
  const gateway_actor& gateway() const { return gateway_; }
  std::uint16_t control_port() const { return control_port_; }

  // Blocks until this node has joined and the cluster has a live node of each of `wanted` that this one can
  // speak to, or until the timeout: `deadline_exceeded`, and what is missing.
  result<void> wait_until_ready(std::chrono::milliseconds timeout,
                                std::vector<role> wanted = {role::prefill, role::storage, role::decode});

 private:
  node() = default;

  caf::actor_system* system_ = nullptr;
  std::shared_ptr<fabric::transport> transport_;
  std::shared_ptr<remoting> network_;
  node_actor handle_;
  gateway_actor gateway_;
  std::vector<caf::strong_actor_ptr> actors_;  // in the order in which they are ended
  std::uint16_t control_port_ = 0;
};

}  // namespace weft::actors
