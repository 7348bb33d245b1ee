#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/run_folder.hpp>
#include <weft/policies/importance.hpp>

#include "node_sections.hpp"
#include "table_reader.hpp"
#include "whole_cluster.hpp"
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> dtype_names{"auto", "f32", "bf16", "f16"};
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
constexpr std::array<std::string_view, 1> namespace_keys{"replicas"};
constexpr std::array<std::string_view, 2> gateway_keys{"listen", "token_file"};
constexpr std::array<std::string_view, 3> tls_keys{"certificate", "key", "authority"};
constexpr std::array<std::string_view, 4> timing_keys{"heartbeat_interval_ms", "liveness_timeout_ms",
                                                      "read_deadline_ms", "lease_duration_ms"};

constexpr std::uint64_t least_quota_bytes = 4096;
constexpr std::uintmax_t most_file_bytes = 1 << 20;
constexpr std::uint64_t most_ms = 3'600'000;

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
    auto path = resolve(*text);
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
    node_sections sections({location_.parent_path(), cluster_.gateway.listen, top_.has("tls")}, mistakes_);
    for (const auto& element : *list) {
      const auto* table = element.as_table();
      if (table == nullptr) {
        top_.mistake_at(element, "`node` must be a list of sections, [[node]]");
        continue;
      }
      if (first_node_ == nullptr) first_node_ = table;
      cluster_.nodes.push_back(sections.read(*table, common_));
    }
    mistyped_role_ = sections.mistyped_role();
  }

  void check_whole() {
    introduce(cluster_.nodes);
    // With a mistyped role, what is missing is that mistake's echo.
    if (!mistyped_role_) check_roles_present(cluster_.nodes, top_);
    check_replicas(cluster_.nodes, common_, top_);
    table_reader first(*first_node_, "node \"" + cluster_.nodes.front().name + "\": ", mistakes_);
    check_first_node_is_found(cluster_.nodes, first);
    check_model_folder(cluster_.nodes, common_.model_folder, top_);
  }

  mistake_list mistakes_;
  table_reader top_;
  fs::path location_;
  actors::node_config common_;
  cluster_file cluster_;
  const toml::table* first_node_ = nullptr;
  bool mistyped_role_ = false;
};

checked_cluster unreadable(std::string text) {
  checked_cluster checked;
  checked.mistakes.push_back({0, 0, std::move(text)});
  return checked;
}

}  // namespace

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
