// The command groups that live in this folder, and what they share.
#pragma once

#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/command.hpp>

#include <filesystem>
#include <optional>

namespace weft::launcher {

void add_config_commands(CLI::App& app, command_context& context);
void add_cluster_commands(CLI::App& app, command_context& context);  // up, down
void add_node_command(CLI::App& app, command_context& context);
void add_demo_command(CLI::App& app, command_context& context);
void add_bench_commands(CLI::App& app, command_context& context);

// Where commands that take a cluster file look for it when none is named.
inline constexpr const char* default_cluster_file = "cluster.toml";

// The checked cluster; none after its mistakes were written to stderr, one a line.
std::optional<cluster_file> read_cluster_or_report(const std::filesystem::path& file);

}  // namespace weft::launcher
