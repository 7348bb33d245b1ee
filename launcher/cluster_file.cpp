#include <weft/engine/device_name.hpp>
#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/nearest_name.hpp>
#include <weft/launcher/run_folder.hpp>
#include <weft/machines/succession.hpp>
#include <weft/policies/importance.hpp>

#include "table_reader.hpp"
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <utility>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;
using actors::role;

constexpr std::array<std::string_view, 5> role_names{"prefill", "storage", "decode", "gateway", "retrieval"};
constexpr std::array<std::string_view, 4> dtype_names{"auto", "f32", "bf16", "f16"};
constexpr std::array<std::string_view, 3> eviction_names{"lru", "s3_fifo", "cost"};
constexpr std::array<std::string_view, 17> cluster_keys{"model",
                                                        "background_importance",
                                                        "replicas",
                                                        "tenant",
                                                        "block_tokens",
                                                        "cache_dtype",
                                                        "threads",
                                                        "gateway",
                                                        "tls",
                                                        "timing",
                                                        "node",
                                                        "run_folder",
                                                        "eviction",
                                                        "high_watermark_percent",
                                                        "low_watermark_percent",
                                                        "quotas",
                                                        "namespaces"};
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
constexpr std::array<std::string_view, 1> namespace_keys{"replicas"};
constexpr std::array<std::string_view, 2> gateway_keys{"listen", "token_file"};
constexpr std::array<std::string_view, 3> tls_keys{"certificate", "key", "authority"};
constexpr std::array<std::string_view, 4> timing_keys{"heartbeat_interval_ms", "liveness_timeout_ms",
                                                      "read_deadline_ms", "lease_duration_ms"};

constexpr std::uint64_t least_arena_bytes = 1ULL << 20;
constexpr std::uint64_t least_cache_bytes = 64ULL << 10;
constexpr std::uint64_t least_file_bytes = 1ULL << 20;
constexpr std::uint64_t least_quota_bytes = 4096;
constexpr std::uintmax_t most_file_bytes = 1 << 20;
constexpr std::uint64_t most_ms = 3'600'000;

bool has_role(const actors::node_config& node, role r) {
  return std::find(node.roles.begin(), node.roles.end(), r) != node.roles.end();
}

bool runs_model(const actors::node_config& node) {
  return has_role(node, role::prefill) || has_role(node, role::decode);
}

class cluster_reader {
 public:
  cluster_reader(const toml::table& document, fs::path location)
      : top_(document, "", mistakes_), location_(std::move(location)) {}

  checked_cluster read() {
    cluster_.location = location_;
    read_cluster_keys();
    read_tls();
    read_timing();
    read_gateway();
    read_nodes();
    if (!cluster_.nodes.empty()) check_whole();
    checked_cluster checked;
    checked.mistakes = mistakes_.take();
    if (checked.mistakes.empty()) checked.cluster = std::move(cluster_);
    return checked;
  }

 private:
  fs::path resolve(const std::string& path) const {
    return (location_.parent_path() / path).lexically_normal();
  }

  void read_cluster_keys() {
    top_.refuse_unknown_keys(cluster_keys);
    if (const auto model = top_.text("model")) common_.model_folder = resolve(*model);
    if (!top_.has("model")) top_.missing("model", "name the folder of the model");
    if (const auto n = top_.number("replicas", 1, 16)) common_.replicas = static_cast<std::uint32_t>(*n);
    if (const auto tenant = top_.text("tenant")) common_.tenant = *tenant;
    if (const auto n = top_.number("block_tokens", 16, 256)) {
      common_.block_tokens = static_cast<std::uint32_t>(*n);
    }
    if (const auto dtype = top_.one_of("cache_dtype", dtype_names)) common_.cache_dtype = *dtype;
    if (const auto n = top_.number("threads", 0, 1024)) common_.threads = static_cast<unsigned>(*n);
    if (const auto name = top_.text("background_importance")) {
      if (const auto policy = policies::importance_policy_from_name(*name); !policy)
        top_.mistake_at("background_importance", "`background_importance`: " + policy.error().context);
      common_.background_importance = *name;
    }
    read_eviction(top_, common_);
    read_quotas();
    read_namespaces();
    const auto folder = top_.text("run_folder");
    cluster_.run_folder = folder ? resolve(*folder) : default_run_folder(location_);
    common_.run_folder = cluster_.run_folder;
  }

  static void read_eviction(table_reader& section, actors::node_config& config) {
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
              ") must be less than `high_watermark_percent` (" +
              std::to_string(config.high_watermark_percent) + ")");
    }
  }

  void read_quotas() {
    const auto* section = top_.table("quotas");
    if (section == nullptr) return;
    table_reader quotas(*section, "quotas: ", mistakes_);
    for (const auto& [tenant, value] : *section) {
      if (const auto bytes = quotas.size(tenant.str(), least_quota_bytes)) {
        common_.quota_bytes[std::string(tenant.str())] = *bytes;
      }
    }
  }

  void read_namespaces() {
    const auto* section = top_.table("namespaces");
    if (section == nullptr) return;
    table_reader names(*section, "namespaces: ", mistakes_);
    for (const auto& [tenant, value] : *section) {
      const auto* one = names.table(tenant.str());
      if (one == nullptr) continue;
      table_reader space(*one, "namespaces." + std::string(tenant.str()) + ": ", mistakes_);
      space.refuse_unknown_keys(namespace_keys);
      const auto n = space.number("replicas", 1, 16);
      if (n) common_.tenant_replicas[std::string(tenant.str())] = static_cast<std::uint32_t>(*n);
    }
  }

  void read_tls() {
    const auto* section = top_.table("tls");
    if (section == nullptr) return;
    table_reader tls(*section, "tls: ", mistakes_);
    tls.refuse_unknown_keys(tls_keys);
    common_.tls.certificate = existing_file(tls, "certificate");
    common_.tls.key = secret_file(tls, "key");
    common_.tls.authority = existing_file(tls, "authority");
    for (const auto key : tls_keys) {
      if (!tls.has(key)) tls.missing(key, "all three are needed: certificate, key and authority");
    }
  }

  void read_timing() {
    const auto* section = top_.table("timing");
    if (section == nullptr) return;
    table_reader timing(*section, "timing: ", mistakes_);
    timing.refuse_unknown_keys(timing_keys);
    const auto read = [&](std::string_view key, std::chrono::milliseconds& value) {
      if (const auto ms = timing.number(key, 1, most_ms)) value = std::chrono::milliseconds(*ms);
    };
    read("heartbeat_interval_ms", common_.heartbeat_interval);
    read("liveness_timeout_ms", common_.liveness_timeout);
    read("read_deadline_ms", common_.read_deadline);
    read("lease_duration_ms", common_.lease_duration);
    if (common_.liveness_timeout < 2 * common_.heartbeat_interval) {
      timing.mistake_at("liveness_timeout_ms",
                        "`liveness_timeout_ms` must be at least twice `heartbeat_interval_ms`, or one late "
                        "heartbeat kills a node");
    }
  }

  void read_gateway() {
    cluster_.gateway.listen = {"127.0.0.1", 0};
    const auto* section = top_.table("gateway");
    if (section == nullptr) return;
    table_reader gateway(*section, "gateway: ", mistakes_);
    gateway.refuse_unknown_keys(gateway_keys);
    if (const auto text = gateway.text("listen")) {
      if (auto address = parse_host_port(*text)) {
        cluster_.gateway.listen = *address;
      } else {
        gateway.mistake_at("listen", "`listen`: " + address.error().context);
      }
    }
    cluster_.gateway.token_file = secret_file(gateway, "token_file");
    if (!is_loopback(cluster_.gateway.listen.host) && !gateway.has("token_file")) {
      gateway.mistake_at("listen",
                         "`listen` is open to the network and no `token_file` is named; make one with "
                         "`umask 077; openssl rand -hex 32 > gateway.token`");
    }
  }

  fs::path existing_file(table_reader& section, std::string_view key) {
    const auto text = section.text(key);
    if (!text) return {};
    const auto path = resolve(*text);
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) {
      section.mistake_at(key, "`" + std::string(key) + "`: no file " + path.string());
    }
    return path;
  }

  fs::path secret_file(table_reader& section, std::string_view key) {
    auto path = existing_file(section, key);
    struct stat facts {};
    if (!path.empty() && stat(path.c_str(), &facts) == 0 && (facts.st_mode & 0077) != 0) {
      section.mistake_at(
          key, "`" + std::string(key) + "`: others can read " + path.string() + "; run `chmod 600` on it");
    }
    return path;
  }

  void read_nodes() {
    const auto* list = top_.list("node");
    if (!top_.has("node")) top_.missing("node", "describe each node in a [[node]] section");
    if (list == nullptr) return;
    if (list->empty()) top_.mistake_at("node", "there is no node; describe each in a [[node]] section");
    for (const auto& element : *list) {
      if (const auto* table = element.as_table()) {
        read_node(*table);
      } else {
        top_.mistake_at(element, "`node` must be a list of sections, [[node]]");
      }
    }
  }

  void read_node(const toml::table& table) {
    const auto* name = table.get_as<std::string>("name");
    const auto subject = name != nullptr ? "node \"" + name->get() + "\": "
                                         : "node " + std::to_string(cluster_.nodes.size() + 1) + ": ";
    table_reader node(table, subject, mistakes_);
    actors::node_config config = common_;
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
    cluster_.nodes.push_back(std::move(config));
    tables_.push_back(&table);
  }

  void read_name(table_reader& node, actors::node_config& config) {
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

  void read_roles(table_reader& node, actors::node_config& config) {
    if (!node.has("roles"))
      node.missing("roles", "choose from prefill, storage, decode, gateway and retrieval");
    const auto* list = node.list("roles");
    if (list == nullptr) return;
    if (list->empty()) {
      node.mistake_at("roles",
                      "`roles` is empty; choose from prefill, storage, decode, gateway and retrieval");
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

  void add_role(table_reader& node, const toml::value<std::string>& text, actors::node_config& config) {
    const auto found = std::find(role_names.begin(), role_names.end(), text.get());
    if (found == role_names.end()) {
      unknown_role_ = true;
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

  void read_host(table_reader& node, actors::node_config& config) {
    const auto text = node.text("host");
    if (!text) return;
    auto host = parse_host(*text);
    if (!host) {
      node.mistake_at("host", "`host`: " + host.error().context);
      return;
    }
    config.host = *host;
    if (!is_loopback(config.host) && !top_.has("tls")) {
      node.mistake_at("host",
                      "`host` is reachable from the network, so nodes must prove who they are: add a "
                      "[tls] section with certificate, key and authority");
    }
  }

  void read_memory(table_reader& node, actors::node_config& config) {
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

  static void read_group(table_reader& node, actors::node_config& config) {
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
  static void read_device(table_reader& node, actors::node_config& config) {
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

  void read_file_tier(table_reader& node, actors::node_config& config) {
    const auto folder = node.text("file");
    const auto bytes = node.size("file_size", least_file_bytes);
    if (node.has("file") != node.has("file_size")) {
      node.missing(node.has("file") ? "file_size" : "file",
                   "a file tier needs both: file = \"FOLDER\" and file_size = \"SIZE\"");
    }
    if (folder && bytes) {
      config.file_folder = resolve(*folder);
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

  void check_ports(table_reader& node, const actors::node_config& config) {
    for (const std::string_view key : {"control_port", "fabric_port"}) {
      const auto port = key == "control_port" ? config.control_port : config.fabric_port;
      if (port == 0) continue;
      if (config.host == cluster_.gateway.listen.host && port == cluster_.gateway.listen.port) {
        node.mistake_at(key, "port " + std::to_string(port) + " is the gateway's already");
      } else if (!ports_.emplace(config.host, port).second) {
        node.mistake_at(key,
                        "port " + std::to_string(port) + " of " + config.host + " is taken by another line");
      }
    }
  }

  // What can only be said of all nodes together.
  void check_whole() {
    gather_groups();
    check_roles_present();
    check_replicas();
    check_candidates();
    check_model_folder();
  }

  std::size_t count(role r) const {
    return static_cast<std::size_t>(std::count_if(cluster_.nodes.begin(), cluster_.nodes.end(),
                                                  [r](const auto& node) { return has_role(node, r); }));
  }

  void check_roles_present() {
    // With a mistyped role, what is missing is that mistake's echo.
    if (unknown_role_) return;
    for (const auto r : {role::prefill, role::storage, role::decode, role::gateway}) {
      if (count(r) == 0) {
        top_.mistake_at("node",
                        "no node has the role " + std::string(name_of(r)) + "; give it to one of them");
      }
    }
    if (count(role::gateway) > 1) {
      top_.mistake_at("node",
                      "several nodes have the role gateway; there is one address for it, so one node");
    }
  }

  void check_replicas() {
    const auto stores = count(role::storage);
    if (stores > 0 && common_.replicas > stores) {
      top_.mistake_at("replicas", "`replicas` is " + std::to_string(common_.replicas) + " but only " +
                                      std::to_string(stores) +
                                      " of the nodes store; lower it or give more nodes the storage role");
    }
    for (const auto& [tenant, copies] : common_.tenant_replicas) {
      if (stores == 0 || copies <= stores) continue;
      top_.mistake_at("namespaces", "`replicas` of the namespace `" + tenant + "` is " +
                                        std::to_string(copies) + " but only " + std::to_string(stores) +
                                        " of the nodes store; lower it or give more nodes the storage role");
    }
  }

  void gather_groups() {
    for (auto& node : cluster_.nodes) {
      if (node.group.empty()) continue;
      for (const auto& other : cluster_.nodes)
        if (other.group == node.group) node.group_nodes.push_back(other.name);
    }
  }

  void check_candidates() {
    const auto& first = cluster_.nodes.front();
    std::vector<actors::candidate> candidates;
    for (const auto& node : cluster_.nodes) {
      if (candidates.size() < machines::max_candidates)
        candidates.push_back({node.name, node.host, node.control_port});
    }
    for (auto& node : cluster_.nodes)
      node.candidates = candidates;
    const bool one_host = std::all_of(cluster_.nodes.begin(), cluster_.nodes.end(),
                                      [&](const auto& node) { return node.host == first.host; });
    if (!one_host && first.control_port == 0) {
      table_reader node(*tables_.front(), "node \"" + first.name + "\": ", mistakes_);
      node.mistake_at("control_port",
                      "the first node holds the membership and other hosts must find it: give it "
                      "a `control_port` other than 0");
    }
  }

  void check_model_folder() {
    if (common_.model_folder.empty()) return;
    const bool needed = std::any_of(cluster_.nodes.begin(), cluster_.nodes.end(), [](const auto& node) {
      return runs_model(node) && is_of_this_machine(node.host);
    });
    std::error_code ignored;
    if (!needed || fs::is_regular_file(common_.model_folder / "config.json", ignored)) return;
    const bool there = fs::is_directory(common_.model_folder, ignored);
    top_.mistake_at("model", there ? "`model`: no config.json in " + common_.model_folder.string() +
                                         "; name a Hugging Face model folder"
                                   : "`model`: no folder " + common_.model_folder.string());
  }

  mistake_list mistakes_;
  table_reader top_;
  fs::path location_;
  actors::node_config common_;
  cluster_file cluster_;
  bool unknown_role_ = false;
  std::vector<const toml::table*> tables_;  // of the nodes
  std::set<std::string> names_;
  std::set<std::pair<std::string, std::uint16_t>> ports_;
  std::set<std::pair<std::string, fs::path>> folders_;  // of file tiers
};

checked_cluster unreadable(std::string text) {
  checked_cluster checked;
  checked.mistakes.push_back({0, 0, std::move(text)});
  return checked;
}

}  // namespace

std::string_view name_of(role r) {
  return role_names.at(static_cast<std::size_t>(r));
}

const actors::node_config* cluster_file::find_node(std::string_view name) const {
  const auto found =
      std::find_if(nodes.begin(), nodes.end(), [&](const auto& node) { return node.name == name; });
  return found == nodes.end() ? nullptr : &*found;
}

std::vector<const actors::node_config*> cluster_file::nodes_here() const {
  std::vector<const actors::node_config*> here;
  for (const auto& node : nodes) {
    if (is_of_this_machine(node.host)) here.push_back(&node);
  }
  return here;
}

std::string to_string(const fs::path& file, const mistake& m) {
  auto place = file.string() + ":";
  if (m.line > 0) place += std::to_string(m.line) + ":" + std::to_string(m.column) + ":";
  return place + " " + m.text;
}

checked_cluster parse_cluster_file(std::string_view text, const fs::path& file) {
  try {
    const auto document = toml::parse(text);
    return cluster_reader(document, fs::absolute(file).lexically_normal()).read();
  } catch (const toml::parse_error& e) {
    checked_cluster checked;
    checked.mistakes.push_back(
        {e.source().begin.line, e.source().begin.column, "this is no TOML: " + on_one_line(e.description())});
    return checked;
  }
}

checked_cluster read_cluster_file(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) {
    return unreadable("no such cluster file; `weft config example` writes one");
  }
  if (!fs::is_regular_file(file, ignored) || fs::file_size(file, ignored) > most_file_bytes) {
    return unreadable("this is no cluster file; `weft config example` writes one");
  }
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  if (!stream) return unreadable("cannot be read; check its permissions");
  return parse_cluster_file(text.str(), file);
}

}  // namespace weft::launcher
