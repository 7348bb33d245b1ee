#include <weft/launcher/shipped_files.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "commands.hpp"

#include <iostream>
#include <memory>

namespace weft::launcher {
namespace {

using nlohmann::json;

int write_example(example_options options, const command_context& context) {
  if (options.model_folder.empty()) {
    auto shipped = shipped_model_folder();
    if (!shipped) return report(shipped.error());
    options.model_folder = *shipped;
  }
  options.model_folder = std::filesystem::absolute(options.model_folder).lexically_normal();
  options.gateway_port = free_port_from(options.gateway_port);
  const auto text = example_cluster_file(options);
  if (context.json) {
    print_json({{"text", text}});
  } else {
    std::cout << text;
  }
  return exit_done;
}

json json_of(const mistake& m) {
  return {{"line", m.line}, {"column", m.column}, {"text", m.text}};
}

int check(const std::filesystem::path& file, const command_context& context) {
  const auto checked = read_cluster_file(file);
  for (const auto& m : checked.mistakes)
    report_wrong_use(to_string(file, m));
  const auto nodes = checked.cluster ? checked.cluster->nodes.size() : 0;
  if (context.json) {
    json mistakes = json::array();
    for (const auto& m : checked.mistakes)
      mistakes.push_back(json_of(m));
    print_json({{"file", file.string()},
                {"ok", checked.mistakes.empty()},
                {"nodes", nodes},
                {"mistakes", mistakes}});
  } else if (checked.cluster) {
    std::cout << file.string() << ": " << nodes << (nodes == 1 ? " node" : " nodes") << ", no mistakes\n";
  }
  return checked.cluster ? exit_done : exit_wrong_use;
}

}  // namespace

std::optional<cluster_file> read_cluster_or_report(const std::filesystem::path& file) {
  auto checked = read_cluster_file(file);
  for (const auto& m : checked.mistakes)
    report_wrong_use(to_string(file, m));
  return std::move(checked.cluster);
}

void add_config_commands(CLI::App& app, command_context& context) {
  auto* config = app.add_subcommand("config", "write or check a cluster file");
  config->require_subcommand(1);

  auto options = std::make_shared<example_options>();
  auto* example = add_command(*config, "example", "print a commented, working cluster file for this machine",
                              "weft config example --nodes 4 > cluster.toml", context);
  example->add_option("--nodes", options->nodes, "how many processes")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  example->add_option("--model", options->model_folder,
                      "model folder (default: the one that comes with weft)");
  on_run(example, context, [options, &context] { return write_example(*options, context); });

  auto file = std::make_shared<std::filesystem::path>(default_cluster_file);
  auto* checking =
      add_command(*config, "check", "explain every mistake of a cluster file, with line and column",
                  "weft config check cluster.toml", context);
  checking->add_option("FILE", *file, "cluster file")->capture_default_str();
  on_run(checking, context, [file, &context] { return check(*file, context); });
}

}  // namespace weft::launcher
