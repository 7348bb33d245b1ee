// `weft eval --suite adaptive`: methods, budgets, ablations, lengths and memory over time, with a report.
#pragma once

#include <weft/launcher/command.hpp>
#include <weft/launcher/study/adaptive_evaluation.hpp>

#include "eval_input.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace weft::launcher::study {

struct adaptive_suite_options {
  std::vector<std::string> methods;  // by name; empty: all
  std::vector<double> ratios{0.1, 0.2, 0.5};
  std::filesystem::path predictor;  // empty: atskv.safetensors beside the model
  std::vector<std::string> parts{"scores", "memory", "lengths"};
  double recall_room = 0.01;
  double turn_part = 0.25;
  double ahead_part = 0.75;
  std::uint32_t sketch_bits = 2;
  std::uint32_t page_rows = 16;
  std::vector<std::filesystem::path> train;  // sets to train predictors on first
  std::uint32_t units = 0;                   // hidden units of those
  std::string gateway;  // of a cluster whose pool is the passive store; empty: this process
};

struct suite_cell {
  std::string set;
  adaptive_cell cell;
};

struct suite_results {
  std::vector<suite_cell> cells;
  std::vector<memory_point> memory;   // over generated tokens
  std::vector<memory_point> lengths;  // one point for each length
};

// Every method at every ratio, and the ablations of atskv at the second one. Names that are asked for pick
// some of them.
std::vector<adaptive_run> adaptive_runs(const std::vector<double>& ratios,
                                        const std::vector<std::string>& names);

// Writes report.md, tables.tex and the plots. `io` names what cannot be written.
result<void> write_adaptive_report(const std::filesystem::path& folder, const std::string& title,
                                   const suite_results& results);

// Returns the exit code.
int run_adaptive_suite(const eval_input& input, const adaptive_suite_options& options,
                       const std::filesystem::path& report_folder, const command_context& context);

}  // namespace weft::launcher::study
