// `weft eval --retrieval`: its options, and how they are carried out.
#pragma once

#include <weft/launcher/command.hpp>
#include <weft/policies/retrieval/options.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace weft::launcher::study {

struct sparse_eval_options {
  std::vector<std::string> policies;
  std::vector<double> ratios{0.25};
  policies::retrieval::options shared;
  std::string scale = "none";
};

struct eval_input {
  std::filesystem::path model;
  std::vector<std::filesystem::path> sets;
  std::string dtype;
  std::size_t limit = 0;  // contexts of each set; 0: all
  unsigned threads = 0;
};

void add_sparse_eval_options(CLI::App& command, sparse_eval_options& options);

// One cell for each set, policy, ratio and task, printed as a table or JSON. Returns the exit code.
int run_sparse_eval(const eval_input& input, const sparse_eval_options& options,
                    const command_context& context);

}  // namespace weft::launcher::study
