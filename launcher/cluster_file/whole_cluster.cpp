#include "whole_cluster.hpp"

#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/host_address.hpp>
#include <weft/machines/succession.hpp>

#include "node_sections.hpp"

#include <algorithm>
#include <string>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;
using actors::role;

std::size_t count(const node_list& nodes, role r) {
  return static_cast<std::size_t>(
      std::count_if(nodes.begin(), nodes.end(), [r](const auto& node) { return has_role(node, r); }));
}

void gather_groups(node_list& nodes) {
  for (auto& node : nodes) {
    if (node.group.empty()) continue;
    for (const auto& other : nodes)
      if (other.group == node.group) node.group_nodes.push_back(other.name);
  }
}

void name_candidates(node_list& nodes) {
  std::vector<actors::candidate> candidates;
  for (const auto& node : nodes) {
    if (candidates.size() < machines::max_candidates)
      candidates.push_back({node.name, node.host, node.control_port});
  }
  for (auto& node : nodes)
    node.candidates = candidates;
}

}  // namespace

void introduce(node_list& nodes) {
  gather_groups(nodes);
  name_candidates(nodes);
}

void check_roles_present(const node_list& nodes, table_reader& top) {
  for (const auto r : {role::prefill, role::storage, role::decode, role::gateway}) {
    if (count(nodes, r) == 0) {
      top.mistake_at("node", "no node has the role " + std::string(name_of(r)) + "; give it to one of them");
    }
  }
  if (count(nodes, role::gateway) > 1) {
    top.mistake_at("node", "several nodes have the role gateway; there is one address for it, so one node");
  }
}

void check_replicas(const node_list& nodes, const actors::node_config& common, table_reader& top) {
  const auto stores = count(nodes, role::storage);
  if (stores > 0 && common.replicas > stores) {
    top.mistake_at("replicas", "`replicas` is " + std::to_string(common.replicas) + " but only " +
                                   std::to_string(stores) +
                                   " of the nodes store; lower it or give more nodes the storage role");
  }
  for (const auto& [tenant, copies] : common.tenant_replicas) {
    if (stores == 0 || copies <= stores) continue;
    top.mistake_at("namespaces", "`replicas` of the namespace `" + tenant + "` is " + std::to_string(copies) +
                                     " but only " + std::to_string(stores) +
                                     " of the nodes store; lower it or give more nodes the storage role");
  }
}

void check_first_node_is_found(const node_list& nodes, table_reader& first) {
  const bool one_host = std::all_of(nodes.begin(), nodes.end(),
                                    [&](const auto& node) { return node.host == nodes.front().host; });
  if (one_host || nodes.front().control_port != 0) return;
  first.mistake_at("control_port",
                   "the first node holds the membership and other hosts must find it: give it "
                   "a `control_port` other than 0");
}

void check_model_folder(const node_list& nodes, const fs::path& folder, table_reader& top) {
  if (folder.empty()) return;
  const bool needed = std::any_of(nodes.begin(), nodes.end(), [](const auto& node) {
    return runs_model(node) && is_of_this_machine(node.host);
  });
  std::error_code ignored;
  if (!needed || fs::is_regular_file(folder / "config.json", ignored)) return;
  const bool there = fs::is_directory(folder, ignored);
  top.mistake_at(
      "model", there ? "`model`: no config.json in " + folder.string() + "; name a Hugging Face model folder"
                     : "`model`: no folder " + folder.string());
}

}  // namespace weft::launcher
