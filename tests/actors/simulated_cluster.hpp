// A whole cluster in one thread: real actors, real blocks, a real model where one is given; virtual time, a
// seeded order of events, delays on every message and transfer; nodes that die, freeze, start again and are
// cut off, messages that get lost and come twice. The same seed gives the same run.
#pragma once

#include <weft/actors/node_assembly.hpp>
#include <weft/fabric/faulty_transport.hpp>
#include <weft/fabric/in_process.hpp>
#include <weft/tier/memory_device.hpp>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <span>
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
  std::map<std::string, std::uint32_t> tenant_replicas = {};
  std::vector<node_plan> nodes;  // the first holds the membership
  std::shared_ptr<engine::runner> model = {};
  std::shared_ptr<const engine::compute_device> device = {};  // the model's, a likeness; null: the CPU
  bool lands = true;                                          // on that device, where the network can
  fabric::network_options wire = {};                          // but for its seed
  duration tick = std::chrono::microseconds{100};             // of virtual time
  std::uint64_t dram_bytes = 8 << 20;
  std::uint64_t staging_bytes = 4 << 20;
  std::uint64_t file_bytes = 0;  // of a tier below the memory of every storage node; 0: none
  std::chrono::milliseconds lease_duration = actors::node_config{}.lease_duration;
  std::uint64_t base_bytes = 0;
  std::uint64_t opening_bytes = actors::node_config{}.opening_bytes;
  std::uint64_t cache_bytes = 0;
  std::string background_importance = {};
};

// What happens to messages between nodes, of a thousand.
struct message_faults {
  unsigned lost = 0;
  unsigned unanswered = 0;  // handled, but the answer is lost
  unsigned doubled = 0;
  unsigned late = 0;  // up to half a second
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

  // As if by kill -9: no farewell, no answer to anything. Others see their connections break.
  void kill(const std::string& name);
  // The same, and what its disk had not made durable may be lost.
  void cut_power(const std::string& name);
  void restart(const std::string& name);  // one that was killed: its memory is empty, its disk as it was left

  void freeze(const std::string& name);
  void thaw(const std::string& name);

  // Nothing crosses between these nodes and the others.
  void split(const std::vector<std::string>& side);
  void heal();

  void spoil_messages(message_faults faults) { faults_ = faults; }

  // Who has connected to whom, in any life.
  const std::set<std::pair<std::string, std::string>>& connections() const { return connections_; }

  // What goes wrong with bulk bytes, of a thousand transfers and views of each node.
  void spoil_transfers(std::map<fabric::fetch_fault, unsigned> per_mille);

  void spoil_sends(std::map<fabric::send_fault, unsigned> per_mille);

  // What disks do wrong from now on, and how much data fits on each.
  void spoil_disks(tier::device_faults faults, std::uint64_t data_limit_bytes);

  // Turns over one bit of what a node stores; not of its staging area.
  void rot(const std::string& name);
  // The same of the data on its disk.
  void rot_on_disk(const std::string& name);
  // One bit of a block with that payload that it has in memory, if it has it; one of every sector of its
  // disk's data.
  void rot_block(const std::string& name, const id128& key, std::size_t payload_bytes);
  void rot_all_data_on_disk(const std::string& name);

  bool alive(const std::string& name) const;

  // Every live node has joined and can speak to a node of each role.
  bool settled() const;

  // The whole arena of a node, to spoil it.
  std::span<std::byte> arena(const std::string& name);

  // An opaque block with that payload, through a node's pool.
  std::shared_ptr<eventual<actors::write_outcome>> put(const std::string& through, const id128& key,
                                                       std::span<const std::byte> payload);
  // `in_place`: views where there can be any. `front_bytes` as in read_order.
  std::shared_ptr<eventual<actors::read_outcome>> get(const std::string& through, std::vector<id128> keys,
                                                      bool in_place = false,
                                                      std::vector<std::uint64_t> front_bytes = {});
  std::shared_ptr<eventual<actors::locate_reply>> locate(const std::string& through, std::vector<id128> keys);
  std::shared_ptr<eventual<std::uint64_t>> drop(const std::string& through, const id128& key);
  std::shared_ptr<eventual<std::uint64_t>> pin(const std::string& through, const id128& key, bool pinned);

  // Asked directly, past the network. Only in a cluster at rest.
  std::shared_ptr<eventual<actors::node_report>> report(const std::string& name);
  std::shared_ptr<eventual<actors::lease_reply>> lease(const std::string& holder, std::vector<id128> keys);
  std::shared_ptr<eventual<machines::candidate_state>> leadership(const std::string& name);

  std::shared_ptr<eventual<actors::document_summary>> ingest(const std::string& through, std::string text,
                                                             actors::scoring_wish scoring = {});
  std::shared_ptr<eventual<std::uint64_t>> drop_document(const std::string& through, const id128& document);
  std::shared_ptr<eventual<std::uint64_t>> pin_document(const std::string& through, const id128& document);
  std::shared_ptr<eventual<actors::document_list>> documents(const std::string& through);
  std::shared_ptr<eventual<actors::answer>> ask(const std::string& through, actors::question asked);

  // Of everything that happened so far: equal for equal seeds.
  std::uint64_t trace_digest() const { return trace_; }
  time_point now() const;

 private:
  struct member;
  class network;

  void boot(const std::string& name);
  std::shared_ptr<tier::opened_tier> attach_disk(member& m);
  void give_plan(member& m, std::uint64_t seed) const;
  void run_disks();
  void break_connections_to(const std::string& name);
  bool cut(const std::string& from, const std::string& to) const;
  bool belongs_to_frozen(const caf::resumable* job) const;
  void run_ready_jobs();
  template <class T, class Handle, class... Ts>
  std::shared_ptr<eventual<T>> request(const Handle& whom, Ts... message);
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
  std::map<fabric::fetch_fault, unsigned> transfer_faults_;
  std::map<fabric::send_fault, unsigned> send_faults_;
  tier::device_faults disk_faults_;
  std::uint64_t disk_limit_bytes_ = tier::memory_device::unlimited;
  std::vector<caf::actor> others_;
  std::multimap<std::string, caf::actor> proxies_;  // by the node that they lead to
  std::vector<std::shared_ptr<network>> ways_;
  std::vector<std::shared_ptr<fabric::transport>> graveyard_;
  std::set<std::pair<std::string, std::string>> connections_;
  std::set<std::string> cut_off_;
  std::set<caf::actor_id> frozen_;
  message_faults faults_;
};

}  // namespace weft::simulation
