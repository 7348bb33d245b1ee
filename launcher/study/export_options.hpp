// What the exports that run a model have in common.
#pragma once

#include <weft/base/error.hpp>
#include <weft/launcher/command.hpp>

#include <CLI/CLI.hpp>

#include <filesystem>
#include <string>

namespace weft::launcher::study {

struct export_options {
  std::filesystem::path model;
  std::filesystem::path in;
  std::filesystem::path out;
  std::string dtype = "f32";
  unsigned threads = 0;
};

void add_export_options(CLI::App& command, export_options& options);

// Says what was written, or why not; the exit code.
int report_written(const result<void>& done, const std::filesystem::path& out,
                   const command_context& context);

}  // namespace weft::launcher::study
