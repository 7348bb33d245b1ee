#include <weft/launcher/process.hpp>
#include <weft/launcher/run_folder.hpp>
#include <weft/launcher/shipped_files.hpp>
#include <weft/launcher/supervisor.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "commands.hpp"
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <memory>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct up_options {
  fs::path file = default_cluster_file;
  bool detach = false;
  std::optional<unsigned> wait_s;
};

// Files of nodes that no longer run would be taken for those of the ones that are about to.
void forget_addresses(const fs::path& run_folder) {
  std::error_code ignored;
  fs::remove(run_folder / "gateway", ignored);
  for (const auto& entry : fs::directory_iterator{run_folder, ignored}) {
    if (entry.path().filename().string().starts_with(actors::node_address_prefix))
      fs::remove(entry.path(), ignored);
  }
}

// Nodes of other machines may be started any time later.
unsigned default_wait_s(const cluster_file& cluster) {
  constexpr unsigned long_s = 10 * 365 * 86'400;
  return cluster.nodes_here().size() == cluster.nodes.size() ? 120 : long_s;
}

std::vector<supervised_child> children_of(const cluster_file& cluster, const command_context& context) {
  std::vector<supervised_child> children;
  for (const auto* node : cluster.nodes_here()) {
    supervised_child child;
    child.name = node->name;
    child.arguments = {program_path().string(), "node", cluster.location.string(), node->name};
    for (int i = 0; i < context.verbose; ++i)
      child.arguments.emplace_back("-v");
    if (context.quiet) child.arguments.emplace_back("-q");
    children.push_back(std::move(child));
  }
  return children;
}

json started_document(const cluster_file& cluster, const std::vector<running_child>& running) {
  json nodes = json::array();
  for (const auto& child : running)
    nodes.push_back({{"name", child.name}, {"pid", child.pid}});
  const auto written = read_address(cluster.run_folder, "gateway");
  return {{"nodes", nodes},
          {"gateway", to_string(written.value_or(cluster.gateway.listen))},
          {"run_folder", cluster.run_folder.string()},
          {"pid", getpid()}};
}

void tell_started(const json& document, const command_context& context) {
  if (context.json) {
    print_json(document);
    return;
  }
  const auto nodes = document["nodes"].size();
  std::cout << nodes << (nodes == 1 ? " node is" : " nodes are") << " up; gateway at "
            << document["gateway"].get<std::string>() << std::endl;
}

using told = std::function<void(const json&)>;

// Runs the nodes of this machine until they are told to stop.
result<void> run_nodes(const cluster_file& cluster, const up_options& options, const command_context& context,
                       const told& on_started) {
  supervisor_options supervision;
  supervision.children = children_of(cluster, context);
  supervision.rules.ready_within = std::chrono::seconds(options.wait_s.value_or(default_wait_s(cluster)));
  supervision.on_ready = [&](const std::vector<running_child>& running) {
    on_started(started_document(cluster, running));
  };
  forget_addresses(cluster.run_folder);
  auto done = supervise(supervision);
  forget_addresses(cluster.run_folder);
  return done;
}

int up_in_foreground(const cluster_file& cluster, const up_options& options, const command_context& context) {
  const auto done =
      run_nodes(cluster, options, context, [&](const json& document) { tell_started(document, context); });
  return done ? exit_done : report(done.error());
}

// -- detached ----------------------------------------------------------------------------------------------

void send_text(int fd, const std::string& text) {
  // The command that started this may be gone; the cluster runs on.
  const auto written = write(fd, text.data(), text.size());
  static_cast<void>(written);
}

result<void> leave_terminal(const fs::path& log) {
  setsid();
  const unique_fd nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const unique_fd file(open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
  if (!nothing || !file) return fail(errc::io, "cannot write " + log.string() + ": " + std::strerror(errno));
  dup2(nothing.get(), STDIN_FILENO);
  dup2(file.get(), STDOUT_FILENO);
  dup2(file.get(), STDERR_FILENO);
  return {};
}

// The supervising process of its own. What it tells its parent: one JSON document, or an error's text.
[[noreturn]] void supervise_detached(const cluster_file& cluster, const up_options& options,
                                     const command_context& context, pid_file& pid, unique_fd news) {
  const auto give_up = [&](const error& e) { send_text(news.get(), e.context); };
  std::signal(SIGPIPE, SIG_IGN);
  auto ready = leave_terminal(cluster.run_folder / "up.log");
  if (ready) ready = pid.write_own_pid();
  if (ready) {
    ready = run_nodes(cluster, options, context, [&](const json& document) {
      send_text(news.get(), document.dump());
      news.reset();
    });
  }
  if (!ready) give_up(ready.error());
  // The parent's exit handlers are the parent's.
  pid.remove();
  _exit(ready ? exit_done : exit_failed);
}

std::string read_to_end(int fd) {
  std::string text;
  std::array<char, 4096> bytes{};
  pollfd watched{fd, POLLIN, 0};
  while (poll(&watched, 1, -1) >= 0 || errno == EINTR) {
    const auto n = read(fd, bytes.data(), bytes.size());
    if (n > 0) text.append(bytes.data(), static_cast<std::size_t>(n));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) break;
  }
  return text;
}

int up_detached(const cluster_file& cluster, const up_options& options, const command_context& context,
                pid_file& pid) {
  auto news = make_pipe();
  if (!news) return report(news.error());
  const pid_t child = fork();
  if (child < 0) return report({errc::io, std::string("cannot start a process: ") + std::strerror(errno)});
  if (child == 0) {
    news->read.reset();
    supervise_detached(cluster, options, context, pid, std::move(news->write));
  }
  pid.disown();
  news->write.reset();
  const auto text = read_to_end(news->read.get());
  const auto document = json::parse(text, nullptr, false);
  if (document.is_object()) {
    tell_started(document, context);
    return exit_done;
  }
  // What did not start is gone when this returns.
  waitpid(child, nullptr, 0);
  const auto log = (cluster.run_folder / "up.log").string();
  return report({errc::internal, text.empty() ? "the cluster did not start; its log is " + log : text});
}

// -- commands ----------------------------------------------------------------------------------------------

int up(const up_options& options, const command_context& context) {
  const auto cluster = read_cluster_or_report(options.file);
  if (!cluster) return exit_wrong_use;
  if (cluster->nodes_here().empty()) {
    return report_wrong_use(options.file.string() +
                            ": no node has a host address of this machine; run this where "
                            "its nodes are, or correct their `host`");
  }
  if (auto made = create_run_folder(cluster->run_folder); !made) return report(made.error());
  auto pid = pid_file::acquire(cluster->run_folder);
  if (!pid) return report(pid.error());
  return options.detach ? up_detached(*cluster, options, context, *pid)
                        : up_in_foreground(*cluster, options, context);
}

// Whether the process has ended within the time.
bool wait_for_end(pid_t pid, int ms) {
  const unique_fd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return errno == ESRCH;
  pollfd watched{process.get(), POLLIN, 0};
  return poll(&watched, 1, ms) == 1;
}

int down(const fs::path& file, const command_context& context) {
  // A cluster must be stoppable although its file has mistakes by now.
  auto checked = read_cluster_file(file);
  const auto folder = checked.cluster ? checked.cluster->run_folder : default_run_folder(file);
  const auto pid = running_pid(folder);
  if (!pid) {
    return report({errc::unreachable,
                   "no cluster of " + file.string() + " runs on this machine; `weft up` starts one"});
  }
  constexpr int most_ms = 15'000;  // more than the nodes are given before they are killed
  kill(*pid, SIGTERM);
  if (!wait_for_end(*pid, most_ms)) {
    return report(
        {errc::deadline_exceeded,
         "process " + std::to_string(*pid) + " has not stopped in 15 s; `weft down` again kills its nodes"});
  }
  if (context.json) print_json({{"stopped", true}, {"pid", *pid}});
  return exit_done;
}

}  // namespace

void add_cluster_commands(CLI::App& app, command_context& context) {
  auto options = std::make_shared<up_options>();
  auto* up_command = add_command(app, "up", "start the nodes of a cluster file that belong to this machine",
                                 "weft up cluster.toml --detach", context);
  up_command->add_option("FILE", options->file, "cluster file")->capture_default_str();
  up_command->add_flag("--detach", options->detach,
                       "return when all nodes are ready, and leave them running");
  up_command
      ->add_option("--wait", options->wait_s,
                   "seconds that the nodes are given to become ready (default: 120; no limit when "
                   "other nodes run elsewhere)")
      ->check(CLI::Range(1U, 86'400U));
  on_run(up_command, context, [options, &context] { return up(*options, context); });

  auto file = std::make_shared<fs::path>(default_cluster_file);
  auto* down_command = add_command(app, "down", "stop what `weft up` started on this machine",
                                   "weft down cluster.toml", context);
  down_command->add_option("FILE", *file, "cluster file")->capture_default_str();
  on_run(down_command, context, [file, &context] { return down(*file, context); });
}

}  // namespace weft::launcher
