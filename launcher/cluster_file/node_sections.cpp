#include "node_sections.hpp"

#include <weft/engine/device_name.hpp>
#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/nearest_name.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace weft::launcher {
namespace {

using actors::role;

constexpr std::array<std::string_view, 5> role_names{"prefill", "storage", "decode", "gateway", "retrieval"};
constexpr std::array<std::string_view, 3> eviction_names{"lru", "s3_fifo", "cost"};
constexpr std::array<std::string_view, 18> node_keys{"cache",
                                                     "name",
                                                     "roles",
                                                     "host",
                                                     "control_port",
                                                     "fabric_port",
                                                     "dram",
                                                     "staging",
                                                     "threads",
                                                     "eviction",
                                                     "high_watermark_percent",
                                                     "low_watermark_percent",
                                                     "document_cache",
                                                     "opening_cache",
                                                     "file",
                                                     "file_size",
                                                     "group",
                                                     "device"};

constexpr std::uint64_t least_arena_bytes = 1ULL << 20;
constexpr std::uint64_t least_cache_bytes = 64ULL << 10;
constexpr std::uint64_t least_file_bytes = 1ULL << 20;

void read_group(table_reader& node, actors::node_config& config) {
  const auto name = node.text("group");
  if (!name) return;
  config.group = *name;
  if (name->empty()) node.mistake_at("group", "`group` is empty; name the group, or remove the line");
  if (!node.has("roles")) return;
  if (!has_role(config, role::decode))
    node.mistake_at("group", "`group` is for nodes with the decode role; add the role or remove the line");
  if (has_role(config, role::prefill))
    node.mistake_at("group",
                    "a node of a group keeps a part of the model, and prefill needs all of it; give the "
                    "prefill role to another node");
  for (const char* key : {"document_cache", "opening_cache"})
    if (node.has(key))
      node.mistake_at("group", "a group keeps no rows; remove the line `" + std::string(key) + "`");
}

// Whether the node's machine has the device is seen where it starts.
void read_device(table_reader& node, actors::node_config& config) {
  const auto name = node.text("device");
  if (!name) return;
  config.device = *name;
  const auto wanted = engine::device_from_name(*name);
  if (!wanted) return node.mistake_at("device", "`device`: " + wanted.error().context);
  if (!node.has("roles")) return;
  if (!runs_model(config))
    node.mistake_at("device",
                    "`device` is for nodes that run the model; give it to one with the prefill or "
                    "decode role");
}

}  // namespace

std::string_view name_of(role r) {
  return role_names.at(static_cast<std::size_t>(r));
}

bool has_role(const actors::node_config& node, role r) {
  return std::find(node.roles.begin(), node.roles.end(), r) != node.roles.end();
}

bool runs_model(const actors::node_config& node) {
  return has_role(node, role::prefill) || has_role(node, role::decode);
}

void read_eviction(table_reader& section, actors::node_config& config) {
  if (const auto name = section.one_of("eviction", eviction_names)) {
    config.eviction = *policies::eviction_from_name(*name);
  }
  if (const auto n = section.number("high_watermark_percent", 1, 100)) {
    config.high_watermark_percent = static_cast<std::uint32_t>(*n);
  }
  if (const auto n = section.number("low_watermark_percent", 0, 99)) {
    config.low_watermark_percent = static_cast<std::uint32_t>(*n);
  }
  // A node that says nothing of its own has its mistake reported above.
  const bool speaks = section.has("high_watermark_percent") || section.has("low_watermark_percent");
  if (speaks && config.low_watermark_percent >= config.high_watermark_percent) {
    section.mistake_at(
        section.has("high_watermark_percent") ? "high_watermark_percent" : "low_watermark_percent",
        "`low_watermark_percent` (" + std::to_string(config.low_watermark_percent) +
            ") must be less than `high_watermark_percent` (" + std::to_string(config.high_watermark_percent) +
            ")");
  }
}

node_sections::node_sections(surroundings around, mistake_list& mistakes)
    : around_(std::move(around)), mistakes_(mistakes) {}

actors::node_config node_sections::read(const toml::table& table, actors::node_config config) {
  ++count_;
  const auto* name = table.get_as<std::string>("name");
  const auto subject =
      name != nullptr ? "node \"" + name->get() + "\": " : "node " + std::to_string(count_) + ": ";
  table_reader node(table, subject, mistakes_);
  node.refuse_unknown_keys(node_keys);
  read_name(node, config);
  read_roles(node, config);
  read_host(node, config);
  if (const auto port = node.number("control_port", 0, 65535)) {
    config.control_port = static_cast<std::uint16_t>(*port);
  }
  if (const auto port = node.number("fabric_port", 0, 65535)) {
    config.fabric_port = static_cast<std::uint16_t>(*port);
  }
  if (const auto n = node.number("threads", 0, 1024)) config.threads = static_cast<unsigned>(*n);
  read_memory(node, config);
  read_group(node, config);
  read_device(node, config);
  check_ports(node, config);
  return config;
}

void node_sections::read_name(table_reader& node, actors::node_config& config) {
  if (!node.has("name")) node.missing("name", "each node has its own, for `weft node` and `weft status`");
  const auto name = node.text("name");
  if (!name) return;
  config.name = *name;
  // Names become file names in the run folder.
  const bool plain = name->size() <= 64 && name->front() != '.' &&
                     std::all_of(name->begin(), name->end(), [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
                     });
  if (!plain) {
    node.mistake_at("name", "`name` must be letters, digits, `-`, `_` and `.`, at most 64 of them");
  }
  if (!names_.insert(*name).second) {
    node.mistake_at("name", "another node has this name already; names must differ");
  }
}

void node_sections::read_roles(table_reader& node, actors::node_config& config) {
  if (!node.has("roles"))
    node.missing("roles", "choose from prefill, storage, decode, gateway and retrieval");
  const auto* list = node.list("roles");
  if (list == nullptr) return;
  if (list->empty()) {
    node.mistake_at("roles", "`roles` is empty; choose from prefill, storage, decode, gateway and retrieval");
  }
  for (const auto& element : *list) {
    const auto* text = element.as_string();
    if (text == nullptr) {
      node.mistake_at(element, "a role must be text in quotes");
      continue;
    }
    add_role(node, *text, config);
  }
}

void node_sections::add_role(table_reader& node, const toml::value<std::string>& text,
                             actors::node_config& config) {
  const auto found = std::find(role_names.begin(), role_names.end(), text.get());
  if (found == role_names.end()) {
    mistyped_role_ = true;
    node.mistake_at(text, "unknown role \"" + text.get() + "\"" + suggestion(text.get(), role_names));
    return;
  }
  const auto r = static_cast<role>(found - role_names.begin());
  if (has_role(config, r)) {
    node.mistake_at(text, "role \"" + text.get() + "\" is listed twice");
    return;
  }
  config.roles.push_back(r);
}

void node_sections::read_host(table_reader& node, actors::node_config& config) {
  const auto text = node.text("host");
  if (!text) return;
  auto host = parse_host(*text);
  if (!host) {
    node.mistake_at("host", "`host`: " + host.error().context);
    return;
  }
  config.host = *host;
  if (!is_loopback(config.host) && !around_.has_tls) {
    node.mistake_at("host",
                    "`host` is reachable from the network, so nodes must prove who they are: add a "
                    "[tls] section with certificate, key and authority");
  }
}

void node_sections::read_memory(table_reader& node, actors::node_config& config) {
  const bool stores = has_role(config, role::storage);
  if (const auto bytes = node.size("dram", least_arena_bytes)) config.dram_bytes = *bytes;
  if (const auto bytes = node.size("staging", least_arena_bytes)) config.staging_bytes = *bytes;
  if (const auto bytes = node.size("cache", least_cache_bytes)) config.cache_bytes = *bytes;
  if (const auto bytes = node.size("document_cache", least_arena_bytes)) config.base_bytes = *bytes;
  if (const auto bytes = node.size("opening_cache", 0)) config.opening_bytes = *bytes;
  for (const char* key : {"cache", "document_cache", "opening_cache"})
    if (!has_role(config, role::decode) && node.has(key) && node.has("roles"))
      node.mistake_at(key, "`" + std::string(key) +
                               "` is for nodes with the decode role; add the role or remove the line");
  read_file_tier(node, config);
  read_eviction(node, config);
  if (stores && !node.has("dram")) {
    node.missing("dram", "say how much memory the storage role may fill, for example dram = \"256 MiB\"");
  }
  if (!stores && node.has("dram") && node.has("roles")) {
    node.mistake_at("dram", "`dram` is for nodes with the storage role; add the role or remove the line");
  }
}

void node_sections::read_file_tier(table_reader& node, actors::node_config& config) {
  const auto folder = node.text("file");
  const auto bytes = node.size("file_size", least_file_bytes);
  if (node.has("file") != node.has("file_size")) {
    node.missing(node.has("file") ? "file_size" : "file",
                 "a file tier needs both: file = \"FOLDER\" and file_size = \"SIZE\"");
  }
  if (folder && bytes) {
    config.file_folder = (around_.folder / *folder).lexically_normal();
    config.file_bytes = *bytes;
    if (!folders_.emplace(config.host, config.file_folder).second) {
      node.mistake_at("file", "another node has the folder " + config.file_folder.string() +
                                  " already; give each its own");
    }
  }
  if (!has_role(config, role::storage) && node.has("file") && node.has("roles")) {
    node.mistake_at("file", "`file` is for nodes with the storage role; add the role or remove the line");
  }
}

void node_sections::check_ports(table_reader& node, const actors::node_config& config) {
  for (const std::string_view key : {"control_port", "fabric_port"}) {
    const auto port = key == "control_port" ? config.control_port : config.fabric_port;
    if (port == 0) continue;
    if (config.host == around_.gateway.host && port == around_.gateway.port) {
      node.mistake_at(key, "port " + std::to_string(port) + " is the gateway's already");
    } else if (!ports_.emplace(config.host, port).second) {
      node.mistake_at(key,
                      "port " + std::to_string(port) + " of " + config.host + " is taken by another line");
    }
  }
}

}  // namespace weft::launcher
