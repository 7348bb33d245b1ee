#include <weft/launcher/command.hpp>

#include <nlohmann/json.hpp>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>
#include <utility>

namespace weft::launcher {
namespace {

std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

}  // namespace

CLI::App* add_command(CLI::App& parent, std::string name, std::string description, const std::string& example,
                      command_context& context) {
  auto* command = parent.add_subcommand(std::move(name), std::move(description));
  command->add_flag("--json", context.json, "one JSON document on stdout, nothing else there");
  command->add_flag("-v,--verbose", context.verbose, "say more on stderr; twice: everything");
  command->add_flag("-q,--quiet", context.quiet, "say nothing on stderr but errors");
  command->footer("Example:\n  " + example);
  return command;
}

void on_run(CLI::App* command, command_context& context, std::function<int()> run) {
  command->callback([&context, run = std::move(run)] {
    set_log_level(context);
    context.exit_code = run();
  });
}

void set_log_level(const command_context& context) {
  auto logger = spdlog::get("weft");
  if (!logger) {
    logger = spdlog::stderr_color_mt("weft");
    logger->set_pattern("%H:%M:%S.%e %^%l%$ %v");
    spdlog::set_default_logger(logger);
  }
  auto level = spdlog::level::info;
  if (context.quiet) level = spdlog::level::err;
  if (context.verbose == 1) level = spdlog::level::debug;
  if (context.verbose > 1) level = spdlog::level::trace;
  spdlog::set_level(level);
}

int report(const error& e) {
  std::cerr << "weft: " << one_line(e.context.empty() ? to_string(e) : e.context) << std::endl;
  return e.code == errc::unreachable ? exit_no_cluster : exit_failed;
}

int report_wrong_use(std::string_view text) {
  std::cerr << "weft: " << one_line(text) << std::endl;
  return exit_wrong_use;
}

void print_json(const nlohmann::json& document) {
  // Bytes that are no UTF-8 (a file name, a model's answer) must not keep the document from being written.
  std::cout << document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

}  // namespace weft::launcher
