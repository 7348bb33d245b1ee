// The cluster file: which nodes there are, where they run and what each does. Its keys are described in
// docs/cluster-file.md.
#pragma once

#include <weft/actors/node_config.hpp>
#include <weft/launcher/host_address.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::launcher {

struct gateway_settings {
  host_port listen;                  // port 0: chosen by the system, written to the run folder
  std::filesystem::path token_file;  // empty: no token is asked for
};

struct cluster_file {
  std::filesystem::path location;  // absolute
  std::filesystem::path run_folder;
  gateway_settings gateway;
  std::vector<actors::node_config> nodes;  // the first holds the membership

  const actors::node_config* find_node(std::string_view name) const;
  // Nodes whose host is an address of this machine.
  std::vector<const actors::node_config*> nodes_here() const;
};

// Something wrong with a cluster file; line and column count from 1, 0 when the file cannot be read at all.
struct mistake {
  unsigned line = 0;
  unsigned column = 0;
  std::string text;
};

// "cluster.toml:3:1: unknown key `replica`; did you mean `replicas`?"
std::string to_string(const std::filesystem::path& file, const mistake& m);

struct checked_cluster {
  std::optional<cluster_file> cluster;  // none when there are mistakes
  std::vector<mistake> mistakes;        // in the order of the file
};

// Parses and checks. Relative paths in the file count from its folder. Looks at the files that the cluster
// file names where a node of this machine needs them.
checked_cluster read_cluster_file(const std::filesystem::path& file);
checked_cluster parse_cluster_file(std::string_view text, const std::filesystem::path& file);

// The names of roles as the file writes them, in the order of `actors::role`.
std::string_view name_of(actors::role r);

struct example_options {
  unsigned nodes = 4;
  std::filesystem::path model_folder;
  std::filesystem::path run_folder;  // empty: left to the default
  std::uint16_t gateway_port = 7600;
  std::string dram = "256 MiB";  // of each storage node
};

// A commented file for a cluster on this machine: one prefill, then storage, then one decode with the
// gateway; fewer nodes share the roles. 1 .. 64 nodes.
std::string example_cluster_file(const example_options& options);

}  // namespace weft::launcher
