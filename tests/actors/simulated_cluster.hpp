// A whole cluster in one thread: real actors, real blocks, a real model; virtual time, a seeded order of
// events, delays on every message and transfer, nodes that die. The same seed gives the same run.
#pragma once

#include <weft/actors/node_assembly.hpp>
#include <weft/fabric/in_process.hpp>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace weft::simulation {

struct node_plan {
  std::string name;
  std::vector<actors::role> roles;
};

struct cluster_plan {
  std::uint64_t seed = 0;
  std::uint32_t replicas = 2;
  std::vector<node_plan> nodes;  // the first holds the membership
  std::shared_ptr<engine::runner> model;
};

// What a run of the driver came to.
template <class T>
struct eventual {
  std::optional<T> value;
  std::optional<error> failure;
  bool done() const { return value || failure; }
};

class simulated_cluster {
 public:
  explicit simulated_cluster(cluster_plan plan);
  ~simulated_cluster();
  simulated_cluster(const simulated_cluster&) = delete;
  simulated_cluster& operator=(const simulated_cluster&) = delete;

  // Runs until `condition` holds; false if it does not within `limit` of virtual time.
  bool run_until(const std::function<bool()>& condition, duration limit);

  // As if by kill -9: no farewell, no answer to anything.
  void kill(const std::string& name);

  // Every live node has joined and can speak to a node of each role.
  bool settled() const;

  std::shared_ptr<eventual<actors::document_summary>> ingest(const std::string& through, std::string text);
  std::shared_ptr<eventual<actors::answer>> ask(const std::string& through, actors::question asked);

  // Of everything that happened so far: equal for equal seeds.
  std::uint64_t trace_digest() const { return trace_; }
  time_point now() const;

 private:
  struct member;
  class network;

  void run_ready_jobs();
  // Remembers an actor that belongs to no node, to end it with the cluster.
  caf::actor keep(caf::actor a);
  void note(std::uint64_t what);
  caf::scheduler::test_coordinator& scheduler() const;

  cluster_plan plan_;
  std::mt19937_64 random_;
  std::uint64_t trace_ = 0;
  caf::actor_system_config config_;
  std::unique_ptr<fabric::in_process_network> wire_;
  std::unique_ptr<caf::actor_system> system_;
  std::map<std::string, std::unique_ptr<member>> members_;
  std::vector<caf::actor> others_;
};

}  // namespace weft::simulation
