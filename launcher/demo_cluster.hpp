// A cluster in a temporary folder, run by `weft up` as a child process. Nothing of it is left when this
// object is gone: also after Ctrl-C.
#pragma once

#include <weft/base/error.hpp>
#include <weft/launcher/process.hpp>

#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

namespace weft::launcher {

class temporary_folder {
 public:
  static result<temporary_folder> make();
  temporary_folder(temporary_folder&& other) noexcept;
  temporary_folder& operator=(temporary_folder&&) = delete;
  ~temporary_folder();

  const std::filesystem::path& path() const { return path_; }

 private:
  explicit temporary_folder(std::filesystem::path path);
  std::filesystem::path path_;
};

struct demo_cluster_options {
  unsigned nodes = 4;
  std::filesystem::path model_folder;
  int verbose = 0;
};

class demo_cluster {
 public:
  // Takes SIGINT, SIGTERM and SIGHUP: they end the cluster, and every wait that watches `stop`.
  static result<std::unique_ptr<demo_cluster>> start(const demo_cluster_options& options);
  demo_cluster(const demo_cluster&) = delete;
  demo_cluster& operator=(const demo_cluster&) = delete;
  ~demo_cluster();

  // Waits until all nodes are ready; HOST:PORT of the gateway. `cancelled` after Ctrl-C. An
  // error without context: the cluster did not start, and has said why on stderr.
  result<std::string> wait_for_gateway();
  std::stop_token stop() const { return stop_.get_token(); }

 private:
  demo_cluster(temporary_folder folder, pid_t up, unique_fd news);
  void watch_signals(const std::stop_token& done);

  temporary_folder folder_;
  pid_t up_;
  unique_fd news_;
  std::stop_source stop_;
  std::jthread watcher_;
};

}  // namespace weft::launcher
