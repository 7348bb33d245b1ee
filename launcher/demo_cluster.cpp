#include "demo_cluster.hpp"

#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/shipped_files.hpp>

#include <nlohmann/json.hpp>

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <utility>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    sigaddset(&set, signal);
  return set;
}

result<fs::path> write_cluster_file(const fs::path& folder, const demo_cluster_options& options) {
  example_options example;
  example.nodes = options.nodes;
  example.model_folder = options.model_folder;
  example.run_folder = folder / "run";
  example.gateway_port = 0;
  const auto file = folder / "cluster.toml";
  std::ofstream stream(file);
  stream << example_cluster_file(example);
  stream.close();
  if (!stream) return fail(errc::io, "cannot write " + file.string() + "; is the disk full?");
  return file;
}

// One line of the pipe, or what there was before its end.
std::string read_line(int fd) {
  std::string line;
  std::array<char, 4096> bytes{};
  pollfd watched{fd, POLLIN, 0};
  while (line.find('\n') == std::string::npos) {
    poll(&watched, 1, -1);
    const auto n = read(fd, bytes.data(), bytes.size());
    if (n > 0) line.append(bytes.data(), static_cast<std::size_t>(n));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) break;
  }
  return line;
}

}  // namespace

temporary_folder::temporary_folder(fs::path path) : path_(std::move(path)) {}
temporary_folder::temporary_folder(temporary_folder&& other) noexcept
    : path_(std::exchange(other.path_, {})) {}

temporary_folder::~temporary_folder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

result<temporary_folder> temporary_folder::make() {
  std::error_code failed;
  std::string name = fs::temp_directory_path(failed) / "weft-demo-XXXXXX";
  if (failed || mkdtemp(name.data()) == nullptr) {
    return fail(errc::io, "cannot make a temporary folder " + name + ": " + std::strerror(errno));
  }
  return temporary_folder(name);
}

demo_cluster::demo_cluster(temporary_folder folder, pid_t up, unique_fd news)
    : folder_(std::move(folder)), up_(up), news_(std::move(news)) {
  watcher_ = std::jthread([this](const std::stop_token& done) { watch_signals(done); });
}

result<std::unique_ptr<demo_cluster>> demo_cluster::start(const demo_cluster_options& options) {
  auto folder = temporary_folder::make();
  if (!folder) return tl::unexpected(folder.error());
  const auto file = write_cluster_file(folder->path(), options);
  if (!file) return tl::unexpected(file.error());
  auto news = make_pipe();
  if (!news) return tl::unexpected(news.error());
  // From here on a signal waits for the watcher, so that none falls between a start and its clean-up.
  const auto signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  process_options process;
  process.arguments = {program_path().string(), "up", file->string(), "--json"};
  process.arguments.emplace_back(options.verbose > 0 ? "-v" : "-q");
  process.stdout_fd = news->write.get();
  const auto up = start_process(process);
  if (!up) return tl::unexpected(up.error());
  return std::unique_ptr<demo_cluster>(new demo_cluster(std::move(*folder), *up, std::move(news->read)));
}

void demo_cluster::watch_signals(const std::stop_token& done) {
  const auto signals = stop_signals();
  const unique_fd asked(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  const unique_fd finished(eventfd(0, EFD_CLOEXEC));
  const std::stop_callback wake(done, [&] { eventfd_write(finished.get(), 1); });
  std::array<pollfd, 2> watched{{{asked.get(), POLLIN, 0}, {finished.get(), POLLIN, 0}}};
  while (!done.stop_requested()) {
    poll(watched.data(), watched.size(), -1);
    signalfd_siginfo info{};
    if (read(asked.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) continue;
    stop_.request_stop();
    kill(up_, SIGTERM);
  }
}

result<std::string> demo_cluster::wait_for_gateway() {
  const auto document = nlohmann::json::parse(read_line(news_.get()), nullptr, false);
  if (stop_.stop_requested()) return fail(errc::cancelled, "stopped before the cluster was up");
  if (!document.is_object()) return fail(errc::internal, {});
  return document.at("gateway").get<std::string>();
}

demo_cluster::~demo_cluster() {
  kill(up_, SIGTERM);
  while (waitpid(up_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace weft::launcher
