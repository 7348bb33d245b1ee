// Runs a fleet of child processes until it is told to stop: by SIGINT, SIGTERM or SIGHUP, or because a child
// did not start.
#pragma once

#include <weft/base/error.hpp>
#include <weft/launcher/fleet.hpp>

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace weft::launcher {

struct supervised_child {
  std::string name;                    // stands before each line it writes to stderr
  std::vector<std::string> arguments;  // the first is the program's path
};

struct running_child {
  std::string name;
  pid_t pid = 0;
};

struct supervisor_options {
  std::vector<supervised_child> children;
  fleet_rules rules;
  // Once, when every child has said that it is ready.
  std::function<void(const std::vector<running_child>&)> on_ready;
};

// Returns when no child is left. The calling thread is the only one of its process, and takes SIGINT,
// SIGTERM, SIGHUP and SIGCHLD. An error says which child did not start and its last words.
result<void> supervise(const supervisor_options& options);

}  // namespace weft::launcher
