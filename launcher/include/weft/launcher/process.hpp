// Child processes: none outlives the thread that started it.
#pragma once

#include <weft/base/error.hpp>
#include <weft/launcher/unique_fd.hpp>

#include <sys/types.h>

#include <string>
#include <vector>

namespace weft::launcher {

struct pipe_ends {
  unique_fd read;
  unique_fd write;
};

// Closed on exec; the reading end does not block.
result<pipe_ends> make_pipe();

struct process_options {
  std::vector<std::string> arguments;    // the first is the program's path
  std::vector<std::string> environment;  // "NAME=value", beside what this process has
  int stdout_fd = -1;                    // -1: this process's
  int stderr_fd = -1;
  int kept_fd = -1;  // stays open in the child, under the same number
};

// Starts the program in a process group of its own, with default signal handling, and SIGTERM as the news
// that the calling thread has died.
result<pid_t> start_process(const process_options& options);

// A process started by `weft up` says that it is ready to work; does nothing elsewhere.
void announce_ready();

// The environment variable that names the descriptor `announce_ready` writes to.
inline constexpr const char* ready_fd_variable = "WEFT_READY_FD";

}  // namespace weft::launcher
