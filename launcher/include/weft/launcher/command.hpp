// What every command of the `weft` program has in common: its options, its exit codes, how it reports.
//
// A command group is a function `void add_..._commands(CLI::App& app, command_context& context)` that calls
// `add_command` and sets a callback. A callback that returns an exit code is set with `on_run`.
#pragma once

#include <weft/base/error.hpp>

#include <CLI/App.hpp>
#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <string>
#include <string_view>

namespace weft::launcher {

// Exit codes of the program.
inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 1;      // the job failed
inline constexpr int exit_wrong_use = 2;   // command line or cluster file
inline constexpr int exit_no_cluster = 3;  // none is reachable

// One for the program's life; outlives the parsed App.
struct command_context {
  bool json = false;
  int verbose = 0;     // times -v was given
  bool quiet = false;  // -q: errors only
  int exit_code = exit_done;
};

// Adds a command with --json, -v and -q. `example` is shown at the end of its --help, one command a line.
CLI::App* add_command(CLI::App& parent, std::string name, std::string description, const std::string& example,
                      command_context& context);

// Runs `run` when `command` was given; what it returns becomes the exit code.
void on_run(CLI::App* command, command_context& context, std::function<int()> run);

// Sets the log level from -v and -q. Logs go to stderr. Called by `on_run` before `run`.
void set_log_level(const command_context& context);

// Writes "weft: ..." to stderr, one line, and returns the exit code that goes with the error:
// `unreachable` 3, everything else 1.
int report(const error& e);

// Writes "weft: ..." to stderr, one line, and returns `exit_wrong_use`.
int report_wrong_use(std::string_view text);

// Writes the command's one JSON document to stdout.
void print_json(const nlohmann::json& document);

}  // namespace weft::launcher
