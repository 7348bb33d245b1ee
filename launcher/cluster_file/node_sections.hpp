// The [[node]] sections of a cluster file, one after the other: what each says, and what it takes from one
// before.
#pragma once

#include <weft/actors/node_config.hpp>
#include <weft/launcher/host_address.hpp>

#include "table_reader.hpp"

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <utility>

namespace weft::launcher {

bool has_role(const actors::node_config& node, actors::role r);
bool runs_model(const actors::node_config& node);

// Keys that the file has for all nodes, and each node for itself.
void read_eviction(table_reader& section, actors::node_config& config);

class node_sections {
 public:
  // What they are read against: the folder that paths count from, and what other sections said.
  struct surroundings {
    std::filesystem::path folder;
    host_port gateway;
    bool has_tls = false;
  };

  node_sections(surroundings around, mistake_list& mistakes);

  // `config` has what all nodes share.
  actors::node_config read(const toml::table& table, actors::node_config config);

  // Why a role may seem to be missing.
  bool mistyped_role() const { return mistyped_role_; }

 private:
  void read_name(table_reader& node, actors::node_config& config);
  void read_roles(table_reader& node, actors::node_config& config);
  void add_role(table_reader& node, const toml::value<std::string>& text, actors::node_config& config);
  void read_host(table_reader& node, actors::node_config& config);
  void read_memory(table_reader& node, actors::node_config& config);
  void read_file_tier(table_reader& node, actors::node_config& config);
  void check_ports(table_reader& node, const actors::node_config& config);

  surroundings around_;
  mistake_list& mistakes_;
  std::size_t count_ = 0;
  bool mistyped_role_ = false;
  std::set<std::string> names_;
  std::set<std::pair<std::string, std::uint16_t>> ports_;
  std::set<std::pair<std::string, std::filesystem::path>> folders_;  // of file tiers
};

}  // namespace weft::launcher
