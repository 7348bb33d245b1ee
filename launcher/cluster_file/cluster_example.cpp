#include <weft/launcher/cluster_file.hpp>

#include <algorithm>
#include <sstream>

namespace weft::launcher {
namespace {

struct example_node {
  std::string name;
  std::vector<actors::role> roles;
};

// The roles of one node of `count`: one prefill, then storage, then one decode with the gateway.
example_node node_at(unsigned index, unsigned count) {
  using actors::role;
  if (count == 1) return {"all", {role::prefill, role::storage, role::decode, role::gateway}};
  if (count == 2) {
    return index == 0 ? example_node{"prefill", {role::prefill, role::storage}}
                      : example_node{"decode", {role::storage, role::decode, role::gateway}};
  }
  if (index == 0) return {"prefill", {role::prefill}};
  if (index + 1 == count) return {"decode", {role::decode, role::gateway}};
  return {"storage-" + std::to_string(index), {role::storage}};
}

unsigned storage_nodes(unsigned count) {
  if (count <= 2) return count;
  return count - 2;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

void write_head(std::ostream& out, const example_options& options) {
  out << "# A weft cluster on this machine. `weft up FILE` starts it, `weft config check FILE` explains "
         "mistakes.\n"
         "# Paths count from the folder of this file.\n\n"
         "# Hugging Face model folder (config.json, model.safetensors, tokenizer.json).\n"
         "model = "
      << quoted(options.model_folder.string())
      << "\n\n"
         "# Copies of every block, each on another storage node. With 2, any one of them may die.\n"
         "replicas = "
      << std::min(2U, storage_nodes(options.nodes)) << "\n";
  if (!options.run_folder.empty()) {
    out << "\n# Where the processes find each other.\nrun_folder = " << quoted(options.run_folder.string())
        << "\n";
  }
  out << "\n[gateway]\n"
         "# Where clients connect: `weft ask --gateway HOST:PORT`. Port 0 is chosen by the system.\n"
         "listen = \"127.0.0.1:"
      << options.gateway_port << "\"\n";
}

void write_node(std::ostream& out, const example_node& node, bool first, const std::string& dram) {
  const bool stores =
      std::find(node.roles.begin(), node.roles.end(), actors::role::storage) != node.roles.end();
  out << "\n[[node]]\nname = " << quoted(node.name) << "\nroles = [";
  for (std::size_t i = 0; i < node.roles.size(); ++i) {
    out << (i > 0 ? ", " : "") << '"' << name_of(node.roles[i]) << '"';
  }
  out << "]\n";
  if (first) {
    out << "# The address that this node listens on; 127.0.0.1 is reached from this machine only. Other "
           "addresses\n"
           "# need a [tls] section. Ports (control_port, fabric_port) are chosen by the system unless "
           "named.\n";
  }
  out << "host = \"127.0.0.1\"\n";
  if (stores) out << "dram = " << quoted(dram) << "  # memory for blocks\n";
}

}  // namespace

std::string example_cluster_file(const example_options& options) {
  std::ostringstream out;
  write_head(out, options);
  out << "\n# The first node holds the membership.";
  for (unsigned i = 0; i < options.nodes; ++i) {
    write_node(out, node_at(i, options.nodes), i == 0, options.dram);
  }
  return out.str();
}

}  // namespace weft::launcher
