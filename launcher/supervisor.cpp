#include <weft/launcher/process.hpp>
#include <weft/launcher/supervisor.hpp>

#include <spdlog/spdlog.h>

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <string_view>
#include <utility>

namespace weft::launcher {
namespace {

time_point now() {
  return std::chrono::steady_clock::now();
}

// What `report` puts before an error; such a line of a child is its last word.
constexpr std::string_view error_prefix = "weft: ";

// The signals as something to poll for, while this object lives.
class signal_source {
 public:
  signal_source() {
    sigemptyset(&taken_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD})
      sigaddset(&taken_, signal);
    sigprocmask(SIG_BLOCK, &taken_, &before_);
    fd_ = unique_fd(signalfd(-1, &taken_, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  signal_source(const signal_source&) = delete;
  signal_source& operator=(const signal_source&) = delete;
  ~signal_source() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

  int fd() const { return fd_.get(); }

  // Whether one that asks to stop has come.
  bool take() {
    bool asked = false;
    signalfd_siginfo info{};
    while (read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      asked = asked || info.ssi_signo != SIGCHLD;
    }
    return asked;
  }

 private:
  sigset_t taken_{};
  sigset_t before_{};
  unique_fd fd_;
};

struct child_process {
  pid_t pid = 0;  // 0: not running
  unique_fd ready;
  unique_fd log;
  std::string unfinished_line;
  std::string last_error;
};

child_end end_of(int status) {
  if (WIFSIGNALED(status)) return child_end::killed;
  return WEXITSTATUS(status) == 0 ? child_end::done : child_end::failed;
}

std::string words_for(int status) {
  if (WIFSIGNALED(status)) return std::string("signal: ") + strsignal(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

class supervisor {
 public:
  explicit supervisor(const supervisor_options& options)
      : options_(options),
        fleet_(options.children.size(), options.rules),
        children_(options.children.size()) {}

  result<void> run() {
    act(fleet_.begin(now()));
    while (!fleet_.finished()) {
      wait_for_news();
      if (signals_.take()) act(fleet_.stop(now()));
      read_pipes();
      reap();
      act(fleet_.tick(now()));
      tell_ready_once();
    }
    if (!fleet_.culprit()) return {};
    return fail(errc::internal, why_not_started(*fleet_.culprit()));
  }

 private:
  void act(const fleet::actions& actions) {
    for (const auto& action : actions) {
      switch (action.what) {
        case fleet_action::kind::start:
          start(action.child);
          break;
        case fleet_action::kind::terminate:
          kill(children_[action.child].pid, SIGTERM);
          break;
        case fleet_action::kind::kill:
          kill(children_[action.child].pid, SIGKILL);
          break;
      }
    }
  }

  void start(std::size_t index) {
    if (auto started = try_start(index); !started) {
      children_[index].last_error = started.error().context;
      act(fleet_.ended(index, child_end::failed, now()));
    }
  }

  result<void> try_start(std::size_t index) {
    auto ready = make_pipe();
    if (!ready) return tl::unexpected(ready.error());
    auto log = make_pipe();
    if (!log) return tl::unexpected(log.error());
    process_options process;
    process.arguments = options_.children[index].arguments;
    process.environment = {std::string(ready_fd_variable) + "=" + std::to_string(ready->write.get())};
    process.stdout_fd = log->write.get();
    process.stderr_fd = log->write.get();
    process.kept_fd = ready->write.get();
    auto pid = start_process(process);
    if (!pid) return tl::unexpected(pid.error());
    auto& child = children_[index];
    child.pid = *pid;
    child.ready = std::move(ready->read);
    child.log = std::move(log->read);
    child.last_error.clear();
    spdlog::debug("{} started as process {}", options_.children[index].name, *pid);
    return {};
  }

  void wait_for_news() {
    std::vector<pollfd> watched{{signals_.fd(), POLLIN, 0}};
    for (const auto& child : children_) {
      if (child.ready) watched.push_back({child.ready.get(), POLLIN, 0});
      if (child.log) watched.push_back({child.log.get(), POLLIN, 0});
    }
    poll(watched.data(), watched.size(), ms_to_deadline());
  }

  int ms_to_deadline() const {
    const auto deadline = fleet_.next_deadline();
    if (!deadline) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - now()).count();
    return static_cast<int>(std::clamp<long long>(left, 0, 60'000));
  }

  void read_pipes() {
    for (std::size_t i = 0; i < children_.size(); ++i) {
      read_ready(i);
      read_log(i);
    }
  }

  void read_ready(std::size_t index) {
    auto& child = children_[index];
    if (!child.ready) return;
    std::array<char, 16> bytes{};
    const auto n = read(child.ready.get(), bytes.data(), bytes.size());
    if (n > 0) {
      fleet_.ready(index);
      spdlog::debug("{} is ready", options_.children[index].name);
    }
    if (n >= 0 || errno != EAGAIN) child.ready.reset();
  }

  void read_log(std::size_t index) {
    auto& child = children_[index];
    std::array<char, 4096> bytes{};
    while (child.log) {
      const auto n = read(child.log.get(), bytes.data(), bytes.size());
      if (n > 0) {
        child.unfinished_line.append(bytes.data(), static_cast<std::size_t>(n));
      } else if (n == 0 || errno != EAGAIN) {
        child.log.reset();
      } else {
        break;
      }
    }
    pass_on_lines(index);
  }

  void pass_on_lines(std::size_t index) {
    auto& child = children_[index];
    std::size_t begin = 0;
    for (auto end = child.unfinished_line.find('\n'); end != std::string::npos;
         end = child.unfinished_line.find('\n', begin)) {
      pass_on(index, std::string_view(child.unfinished_line).substr(begin, end - begin));
      begin = end + 1;
    }
    child.unfinished_line.erase(0, begin);
  }

  // An error of a child that has not been ready is not shown here: it becomes the error of the whole.
  void pass_on(std::size_t index, std::string_view line) {
    if (line.starts_with(error_prefix)) {
      children_[index].last_error = line.substr(error_prefix.size());
      if (!told_ready_) return;
    }
    std::cerr << '[' << options_.children[index].name << "] " << line << std::endl;
  }

  void reap() {
    int status = 0;
    for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
      const auto found = std::find_if(children_.begin(), children_.end(),
                                      [pid](const child_process& child) { return child.pid == pid; });
      if (found != children_.end()) bury(static_cast<std::size_t>(found - children_.begin()), status);
    }
  }

  void bury(std::size_t index, int status) {
    auto& child = children_[index];
    const auto& name = options_.children[index].name;
    read_ready(index);
    read_log(index);
    if (!child.unfinished_line.empty()) pass_on(index, std::exchange(child.unfinished_line, {}));
    child.pid = 0;
    child.ready.reset();
    child.log.reset();
    if (child.last_error.empty()) child.last_error = words_for(status);
    act(fleet_.ended(index, end_of(status), now()));
    if (const auto due = fleet_.restart_of(index)) {
      const auto ms = std::chrono::round<std::chrono::milliseconds>(*due - now()).count();
      spdlog::warn("{} ended ({}); started again in {} ms", name, words_for(status),
                   std::max<long long>(ms, 0));
    } else {
      spdlog::debug("{} ended ({})", name, words_for(status));
    }
  }

  void tell_ready_once() {
    if (told_ready_ || fleet_.culprit() || !fleet_.all_ready()) return;
    told_ready_ = true;
    std::vector<running_child> running;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      running.push_back({options_.children[i].name, children_[i].pid});
    }
    if (options_.on_ready) options_.on_ready(running);
  }

  std::string why_not_started(std::size_t index) const {
    const auto& words = children_[index].last_error;
    const auto start = "node " + options_.children[index].name + " did not start: ";
    if (!fleet_.culprit_was_late()) return start + words;
    const auto s = std::chrono::round<std::chrono::seconds>(options_.rules.ready_within).count();
    return start + "it was not ready within " + std::to_string(s) + " s; `weft up -v` shows what it does";
  }

  const supervisor_options& options_;
  signal_source signals_;
  fleet fleet_;
  std::vector<child_process> children_;
  bool told_ready_ = false;
};

}  // namespace

result<void> supervise(const supervisor_options& options) {
  return supervisor(options).run();
}

}  // namespace weft::launcher
