#include "peer_process.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <vector>

namespace weft::fabric::testing {

namespace {

int nibble(char digit) {
  return digit <= '9' ? digit - '0' : digit - 'a' + 10;
}

std::string from_hexadecimal(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out += static_cast<char>(nibble(text[i]) * 16 + nibble(text[i + 1]));
  return out;
}

}  // namespace

peer_process::peer_process(const std::string& transports, std::size_t arena_bytes, bool map_arenas,
                           std::uint16_t port) {
  std::array<int, 2> input{};
  std::array<int, 2> output{};
  REQUIRE(pipe2(input.data(), O_CLOEXEC) == 0);
  REQUIRE(pipe2(output.data(), O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  std::array<std::string, 5> words{WEFT_FABRIC_PEER, transports, std::to_string(arena_bytes),
                                   map_arenas ? "1" : "0", std::to_string(port)};
  std::vector<char*> arguments;
  for (auto& word : words)
    arguments.push_back(word.data());
  arguments.push_back(nullptr);
  REQUIRE(posix_spawn(&process_, WEFT_FABRIC_PEER, &actions, nullptr, arguments.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(input[0]);
  close(output[1]);
  input_ = input[1];
  read_address(output[0]);
  close(output[0]);
}

void peer_process::read_address(int from) {
  std::string line;
  char c = 0;
  while (::read(from, &c, 1) == 1 && c != '\n')
    line += c;
  address_ = from_hexadecimal(line);
  REQUIRE(!address_.empty());
}

peer_process::~peer_process() {
  close(input_);
  if (process_ < 0) return;
  ::kill(process_, SIGCONT);
  int status = 0;
  waitpid(process_, &status, 0);
  const bool left_in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  CHECK(left_in_order);
}

void peer_process::kill() {
  ::kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
  process_ = -1;
}

void peer_process::freeze() const {
  ::kill(process_, SIGSTOP);
  int status = 0;
  waitpid(process_, &status, WUNTRACED);
}

void peer_process::thaw() const {
  ::kill(process_, SIGCONT);
}

}  // namespace weft::fabric::testing
