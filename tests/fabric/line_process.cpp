#include "line_process.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace weft::testing {

line_process::line_process(std::vector<std::string> words) {
  std::array<int, 2> input{};
  std::array<int, 2> output{};
  REQUIRE(pipe2(input.data(), O_CLOEXEC) == 0);
  REQUIRE(pipe2(output.data(), O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  std::vector<char*> arguments;
  for (auto& word : words)
    arguments.push_back(word.data());
  arguments.push_back(nullptr);
  REQUIRE(posix_spawn(&process_, arguments[0], &actions, nullptr, arguments.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(input[0]);
  close(output[1]);
  input_ = input[1];
  output_ = output[0];
}

line_process::~line_process() {
  close(input_);
  if (process_ >= 0) {
    ::kill(process_, SIGCONT);
    int status = 0;
    waitpid(process_, &status, 0);
    const bool left_in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    CHECK(left_in_order);
  }
  close(output_);
}

void line_process::write_line(const std::string& line) const {
  const std::string text = line + '\n';
  REQUIRE(::write(input_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string line_process::read_line() const {
  std::string line;
  char c = 0;
  while (::read(output_, &c, 1) == 1 && c != '\n')
    line += c;
  return line;
}

void line_process::kill() {
  ::kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
  process_ = -1;
}

void line_process::freeze() const {
  ::kill(process_, SIGSTOP);
  int status = 0;
  waitpid(process_, &status, WUNTRACED);
}

void line_process::thaw() const {
  ::kill(process_, SIGCONT);
}

}  // namespace weft::testing
