// The folder in which the processes of one running cluster find each other on one host.
//
//   pid      process id of `weft up`, locked while it runs
//   node-NAME  HOST:PORT of that node for control messages, written by it
//   gateway  HOST:PORT of the gateway, written by its node
//   up.log   what the nodes said, when started with --detach
#pragma once

#include <weft/base/error.hpp>
#include <weft/launcher/host_address.hpp>

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string_view>

namespace weft::launcher {

// Where it is for a cluster file that names none: in XDG_RUNTIME_DIR, or /tmp/weft-UID, under a hash of the
// file's absolute path.
std::filesystem::path default_run_folder(const std::filesystem::path& cluster_file);

// Makes the folder, for this user only. `io` when it cannot be made or belongs to someone else.
result<void> create_run_folder(const std::filesystem::path& folder);

// Replaces the file as a whole: a reader sees the old text or the new one.
result<void> write_address(const std::filesystem::path& folder, std::string_view name,
                           const host_port& address);
// `not_found` when no node has written it.
result<host_port> read_address(const std::filesystem::path& folder, std::string_view name);

// The pid file of a running `weft up`. Unlocked and removed when destroyed, unlocked by the kernel when the
// process dies.
class pid_file {
 public:
  // `invalid_argument` when another process holds it.
  static result<pid_file> acquire(const std::filesystem::path& folder);
  pid_file(pid_file&& other) noexcept;
  pid_file& operator=(pid_file&&) = delete;
  ~pid_file();

  // After a fork: this process is the one to be named.
  result<void> write_own_pid();
  // What the destructor does, for a process that ends without one.
  void remove();
  // The child has it: this process neither removes it nor keeps it locked.
  void disown();

 private:
  pid_file(int fd, std::filesystem::path path);
  int fd_;
  std::filesystem::path path_;
};

// The process that holds the pid file; none when no cluster runs from this folder.
std::optional<pid_t> running_pid(const std::filesystem::path& folder);

}  // namespace weft::launcher
