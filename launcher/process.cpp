#include <weft/launcher/process.hpp>

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace weft::launcher {
namespace {

tl::unexpected<error> fail_io(const std::string& what) {
  return fail(errc::io, what + ": " + std::strerror(errno));
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (auto& text : texts)
    pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> environment_with(const std::vector<std::string>& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view existing(*entry);
    const auto name = existing.substr(0, existing.find('=') + 1);
    const bool replaced = std::any_of(added.begin(), added.end(),
                                      [&](const std::string& text) { return text.starts_with(name); });
    if (!replaced) all.emplace_back(existing);
  }
  all.insert(all.end(), added.begin(), added.end());
  return all;
}

// Between fork and exec: nothing here allocates or takes a lock.
[[noreturn]] void become_program(const process_options& options, char** arguments, char** environment,
                                 pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  // The parent may have died before the line above.
  if (getppid() != parent) _exit(1);
  for (int signal = 1; signal < NSIG; ++signal)
    std::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (options.stdout_fd >= 0) dup2(options.stdout_fd, STDOUT_FILENO);
  if (options.stderr_fd >= 0) dup2(options.stderr_fd, STDERR_FILENO);
  if (options.kept_fd >= 0) fcntl(options.kept_fd, F_SETFD, 0);
  execve(arguments[0], arguments, environment);
  _exit(127);
}

}  // namespace

result<pipe_ends> make_pipe() {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_io("cannot make a pipe");
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return pipe_ends{unique_fd(ends[0]), unique_fd(ends[1])};
}

result<pid_t> start_process(const process_options& options) {
  auto arguments = options.arguments;
  auto environment = environment_with(options.environment);
  const auto argument_pointers = pointers_to(arguments);
  const auto environment_pointers = pointers_to(environment);
  const pid_t parent = getpid();
  // Until the child has handlers of its own, a signal to it would run this process's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  const pid_t child = fork();
  if (child != 0) pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return fail_io("cannot start " + options.arguments.front());
  if (child == 0) {
    become_program(options, const_cast<char**>(argument_pointers.data()),
                   const_cast<char**>(environment_pointers.data()), parent);
  }
  // Done by whichever of the two comes first: a signal to the group must not miss.
  setpgid(child, child);
  return child;
}

void announce_ready() {
  const char* text = std::getenv(ready_fd_variable);
  if (text == nullptr) return;
  int fd = -1;
  const auto [end, status] = std::from_chars(text, text + std::strlen(text), fd);
  unsetenv(ready_fd_variable);
  if (status != std::errc{} || *end != '\0' || fd <= STDERR_FILENO) return;
  const auto written = write(fd, "ready\n", 6);
  static_cast<void>(written);  // the supervisor is gone: its death signal is on the way
  close(fd);
}

}  // namespace weft::launcher
