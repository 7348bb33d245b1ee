// The `weft` program.
#include <weft/launcher/client_commands.hpp>
#include <weft/launcher/nearest_name.hpp>
#include <weft/launcher/study.hpp>

#include <CLI/CLI.hpp>

#include "commands.hpp"

#include <iostream>

namespace {

using namespace weft::launcher;

void add_commands(CLI::App& app, command_context& context) {
  add_demo_command(app, context);
  add_cluster_commands(app, context);
  add_node_command(app, context);
  add_config_commands(app, context);
  add_client_commands(app, context);
  study::add_study_commands(app, context);
  add_bench_commands(app, context);
}

std::string command_path(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app.get_name() : app.get_name() + " " + command_path(*chosen.front());
}

std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& e, int argc, char** argv) {
  if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-') {
    std::vector<std::string_view> names;
    for (const auto* command : app.get_subcommands({}))
      names.push_back(command->get_name());
    return "unknown command `" + std::string(argv[1]) + "`" + suggestion(argv[1], names);
  }
  return std::string(e.what()) + "; `" + command_path(app) + " --help` shows what there is";
}

}  // namespace

int main(int argc, char** argv) {
  command_context context;
  CLI::App app("weft: documents are encoded once, and answer questions anywhere in the cluster", "weft");
  app.set_version_flag("--version", "weft " WEFT_VERSION);
  app.require_subcommand(1);
  app.footer("`weft COMMAND --help` shows the options of a command and an example.");
  add_commands(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wish) {
    return app.exit(wish);  // --help, --version
  } catch (const CLI::ParseError& e) {
    return report_wrong_use(what_is_wrong(app, e, argc, argv));
  } catch (const std::exception& e) {
    return report({weft::errc::internal, e.what()});
  }
  return context.exit_code;
}
