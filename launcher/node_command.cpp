// `weft node`: one node of a cluster file in the foreground.
#include <weft/actors/node.hpp>
#include <weft/actors/system_config.hpp>
#include <weft/actors/tls_check.hpp>
#include <weft/launcher/gateway/server.hpp>
#include <weft/launcher/process.hpp>
#include <weft/launcher/run_folder.hpp>

#include <CLI/CLI.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "actor_backend.hpp"
#include "commands.hpp"
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <fstream>
#include <optional>

namespace weft::launcher {
namespace {

// Less than `weft up` waits before it kills.
constexpr unsigned stop_within_s = 8;

struct node_options {
  std::filesystem::path file;
  std::string name;
};

// Blocked before any thread starts, so that every thread inherits it and this is the only place to see them.
class stop_signals {
 public:
  stop_signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  int wait() const {
    int signal = 0;
    sigwait(&set_, &signal);
    return signal;
  }
  // One that has come already.
  std::optional<int> take() const {
    const timespec at_once{};
    const int signal = sigtimedwait(&set_, nullptr, &at_once);
    return signal > 0 ? std::optional(signal) : std::nullopt;
  }

 private:
  sigset_t set_{};
};

result<std::string> read_token(const std::filesystem::path& file) {
  if (file.empty()) return std::string{};
  std::ifstream in(file);
  std::string token;
  if (!std::getline(in, token) || token.empty()) {
    return fail(errc::invalid_argument,
                "the gateway's token file " + file.string() + " cannot be read or is empty");
  }
  return token;
}

result<std::unique_ptr<gateway::server>> start_gateway(const cluster_file& cluster,
                                                       const actors::node_config& config,
                                                       caf::actor_system& system, const actors::node& node) {
  const auto token = read_token(cluster.gateway.token_file);
  if (!token) return tl::make_unexpected(token.error());
  gateway::server_options options;
  options.host = cluster.gateway.listen.host;
  options.port = cluster.gateway.listen.port;
  options.token = *token;
  options.software = "weft " WEFT_VERSION;
  auto server = gateway::server::start(options, make_actor_backend(system, node.gateway(), node.handle()));
  if (!server) return tl::make_unexpected(server.error());
  const auto written = write_address(config.run_folder, "gateway", {options.host, (*server)->port()});
  if (!written) return tl::make_unexpected(written.error());
  spdlog::info("{}: gateway at {}", config.name, (*server)->address());
  return server;
}

// Until the cluster can work with this node in it and all that `weft up` starts with it know each other,
// which is when that is told; or until a signal.
std::optional<int> wait_for_cluster(const cluster_file& cluster, actors::node& node,
                                    const stop_signals& signals) {
  std::vector<std::string> companions;
  for (const auto* other : cluster.nodes_here())
    companions.push_back(other->name);
  for (;;) {
    if (const auto signal = signals.take()) return signal;
    if (node.wait_until_ready(std::chrono::milliseconds(250), companions)) break;
  }
  announce_ready();
  return std::nullopt;
}

int run_node(const node_options& options, const command_context& context) {
  const stop_signals signals;
  const auto cluster = read_cluster_or_report(options.file);
  if (!cluster) return exit_wrong_use;
  const auto* config = cluster->find_node(options.name);
  if (!config) return report_wrong_use("no node `" + options.name + "` in " + options.file.string());
  if (const auto made = create_run_folder(config->run_folder); !made) return report(made.error());

  if (const auto fit = actors::check_tls_files(config->tls); !fit) return report(fit.error());

  caf::actor_system_config system_config;
  actors::prepare(system_config, config->tls);
  caf::actor_system system{system_config};
  // The node waits for its own actors; nothing else is worth waiting for.
  system.await_actors_before_shutdown(false);
  auto node = actors::node::start(system, *config);
  if (!node) return report(node.error());
  std::unique_ptr<gateway::server> server;
  if (std::ranges::find(config->roles, actors::role::gateway) != config->roles.end()) {
    auto started = start_gateway(*cluster, *config, system, **node);
    if (!started) return report(started.error());
    server = std::move(*started);
  }
  spdlog::info("{}: running, control port {}", config->name, (*node)->control_port());
  if (context.json) print_json({{"name", config->name}, {"control_port", (*node)->control_port()}});
  const auto early = wait_for_cluster(*cluster, **node, signals);
  const int signal = early ? *early : signals.wait();
  // A peer that hangs must not keep this process alive.
  alarm(stop_within_s);
  spdlog::info("{}: stopping on signal {}", config->name, signal);
  server.reset();
  node->reset();
  return exit_done;
}

}  // namespace

void add_node_command(CLI::App& app, command_context& context) {
  const auto options = std::make_shared<node_options>();
  auto* command =
      add_command(app, "node", "run one node of a cluster file in the foreground (ssh, systemd, Slurm)",
                  "weft node cluster.toml storage-1", context);
  command->add_option("CLUSTER", options->file, "cluster file")->required();
  command->add_option("NAME", options->name, "the node's name in it")->required();
  on_run(command, context, [options, &context] { return run_node(*options, context); });
}

}  // namespace weft::launcher
