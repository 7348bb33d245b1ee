#include <weft/launcher/process.hpp>
#include <weft/launcher/supervisor.hpp>

#include <doctest/doctest.h>

#include "temporary_folder.hpp"

#include <csignal>
#include <fstream>

using namespace weft::launcher;
using namespace std::chrono_literals;

namespace {

const std::string say_ready = "eval \"echo ready >&$WEFT_READY_FD\"; ";

supervised_child child(std::string name, const std::string& script) {
  return {std::move(name), {"/bin/bash", "-c", script}};
}

// Sleeps in a way that a signal to the shell ends at once.
const std::string until_terminated = "sleep 60 & trap 'kill $!; exit 0' TERM; wait";

std::size_t lines_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::size_t n = 0;
  for (std::string line; std::getline(stream, line);)
    ++n;
  return n;
}

bool is_gone(pid_t pid) {
  return kill(pid, 0) != 0;
}

}  // namespace

TEST_CASE("children run until this process is told to stop, and are gone then") {
  supervisor_options options;
  options.children = {child("a", say_ready + until_terminated), child("b", say_ready + until_terminated)};
  std::vector<running_child> running;
  options.on_ready = [&](const std::vector<running_child>& children) {
    running = children;
    kill(getpid(), SIGTERM);
  };
  CHECK(supervise(options));
  REQUIRE(running.size() == 2);
  CHECK(running[0].name == "a");
  CHECK(is_gone(running[0].pid));
  CHECK(is_gone(running[1].pid));
}

TEST_CASE("a child that is killed is started again") {
  const temporary_folder folder;
  const auto starts = folder.path() / "starts";
  supervisor_options options;
  options.rules.first_delay = 1ms;
  // The second start ends the test.
  const auto script = "echo >> " + starts.string() + "; if [ $(wc -l < " + starts.string() +
                      ") = 2 ]; then kill -TERM $PPID; fi; " + say_ready + until_terminated;
  options.children = {child("a", script)};
  options.on_ready = [](const std::vector<running_child>& running) { kill(running[0].pid, SIGKILL); };
  CHECK(supervise(options));
  CHECK(lines_of(starts) == 2);
}

TEST_CASE("a child that fails at its start ends all, with its last words") {
  supervisor_options options;
  options.children = {child("a", say_ready + until_terminated),
                      child("b", "echo 'weft: port 7600 is in use' >&2; exit 1")};
  const auto done = supervise(options);
  REQUIRE_FALSE(done);
  CHECK(done.error().context == "node b did not start: port 7600 is in use");
}

TEST_CASE("a program that is not there") {
  supervisor_options options;
  options.children = {{"a", {"/nonexistent/weft"}}};
  const auto done = supervise(options);
  REQUIRE_FALSE(done);
  CHECK(done.error().context == "node a did not start: exit code 127");
}

TEST_CASE("a child that does not listen is killed") {
  supervisor_options options;
  options.rules.grace = 1ms;
  options.children = {child("deaf", "trap '' TERM; " + say_ready + "while true; do sleep 1; done")};
  pid_t deaf = 0;
  options.on_ready = [&](const std::vector<running_child>& children) {
    deaf = children[0].pid;
    kill(getpid(), SIGINT);
  };
  CHECK(supervise(options));
  CHECK(is_gone(deaf));
}
