#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "json_of.hpp"
#include "reach_cluster.hpp"

#include <algorithm>
#include <iomanip>
#include <iostream>

namespace weft::launcher {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words)
    text += (text.empty() ? "" : ",") + word;
  return text;
}

void print_pool(const char* name, const schema::pool_use& pool) {
  if (pool.capacity_bytes == 0) return;
  constexpr double mib = 1024.0 * 1024.0;
  std::cout << "    " << name << "  " << static_cast<double>(pool.used_bytes) / mib << " of "
            << static_cast<double>(pool.capacity_bytes) / mib << " MiB\n";
}

std::int64_t counted(const schema::node_status& node, std::string_view name) {
  const auto found = std::ranges::find(node.counters, name, &schema::counter::name);
  return found == node.counters.end() ? 0 : found->value;
}

// What bands save: memory that trimming gave back, bytes that readers at a ratio did not ask for.
void print_bands(const schema::node_status& node) {
  constexpr double mib = 1024.0 * 1024.0;
  if (const auto blocks = counted(node, "storage.banded_blocks"); blocks > 0)
    std::cout << "    bands  " << counted(node, "storage.bands") << " in " << blocks << " blocks, "
              << static_cast<double>(counted(node, "storage.trimmed_bytes")) / mib << " MiB trimmed\n";
  if (const auto bytes = counted(node, "decode.bytes_left_out"); bytes > 0)
    std::cout << "    ratio  " << static_cast<double>(counted(node, "decode.bytes_read")) / mib
              << " MiB read, " << static_cast<double>(bytes) / mib << " MiB left where they are\n";
}

void print_importance(const schema::node_status& node) {
  const auto waiting = counted(node, "importance.waiting");
  const auto done = counted(node, "importance.done");
  const auto failed = counted(node, "importance.failed");
  if (waiting + done + failed == 0) return;
  std::cout << "    importance  " << done << " documents scored in the background, " << waiting << " waiting";
  if (failed > 0) std::cout << ", " << failed << " failed (see the node's log)";
  std::cout << "\n";
}

void print_group(const schema::node_status& node) {
  const auto made = std::ranges::find(node.counters, "group.made", &schema::counter::name);
  if (made == node.counters.end()) return;
  if (const auto ranks = counted(node, "group.ranks"); ranks > 0)
    std::cout << "    group  rank " << counted(node, "group.rank") << " of " << ranks
              << (counted(node, "group.rank") == 0 ? ", leads" : "") << "\n";
  else
    std::cout << "    group  not in one now\n";
}

void print_device(const schema::node_status& node) {
  const auto total = counted(node, "device.total_bytes");
  if (total <= 0) return;
  print_pool("device", {.used_bytes = static_cast<std::uint64_t>(counted(node, "device.used_bytes")),
                        .capacity_bytes = static_cast<std::uint64_t>(total)});
}

void print_node(const schema::node_status& node, bool counters) {
  std::cout << "  " << node.name << "  " << (node.alive ? "alive" : "dead") << "  pid " << node.pid << "  "
            << joined(node.roles) << "\n";
  print_pool("dram", node.dram);
  print_pool("file", node.file);
  print_device(node);
  print_bands(node);
  print_importance(node);
  print_group(node);
  for (const auto& p : node.peers) {
    std::cout << "    to " << p.name << " by " << p.transport << " (" << p.path << ")";
    if (p.gb_per_s > 0) std::cout << "  " << p.gb_per_s << " GB/s";
    std::cout << "\n";
  }
  if (!counters) return;
  for (const auto& c : node.counters)
    std::cout << "    " << c.name << " " << c.value << "\n";
}

void print_status(const client::cluster_status& status, bool counters) {
  std::cout << std::fixed << std::setprecision(1) << "epoch " << status.epoch << ", " << status.nodes.size()
            << (status.nodes.size() == 1 ? " node\n" : " nodes\n");
  for (const auto& node : status.nodes)
    print_node(node, counters);
  std::cout << std::flush;
}

}  // namespace

void add_status_command(CLI::App& app, command_context& context) {
  auto* command = add_command(app, "status", "show nodes, roles, pools and the transports between them",
                              "weft status\n  weft status -v      counters too", context);
  auto gateway = add_gateway_options(*command);
  on_run(command, context, [gateway, &context] {
    return with_cluster(*gateway, [&](client::connection& cluster) {
      const auto status = cluster.status(deadline_of(*gateway));
      if (!status) return report_call(cluster, status.error());
      if (context.json)
        print_json(json_of(*status));
      else
        print_status(*status, context.verbose > 0);
      return exit_done;
    });
  });
}

}  // namespace weft::launcher
