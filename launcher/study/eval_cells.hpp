// The cells of `weft eval`, whatever was measured: how they are printed.
#pragma once

#include <weft/launcher/command.hpp>
#include <weft/launcher/study/evaluation.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace weft::launcher::study {

// Of answers that were decoded sparsely.
struct sparse_numbers {
  std::string retrieval;
  double ratio = 1;
  std::uint32_t stride = 0;
  double moved_bytes = 0;
  double late_loads = 0;
  double step_ms = 0;
};

// Of answers from documents that were chosen for the question.
struct retrieved_numbers {
  std::size_t chosen = 0;
  std::string pool;
  double pool_documents = 0;
  double recall = 0;  // per cent, with its 95 % interval
  double low = 0;
  double high = 100;
};

struct eval_cell {
  std::string set;
  std::string stitch;
  evaluation_cell numbers;
  std::optional<sparse_numbers> sparse = std::nullopt;
  std::optional<retrieved_numbers> retrieved = std::nullopt;
};

nlohmann::json json_of(const eval_cell& cell);

// As a table, or as the command's JSON document.
void print_cells(const std::vector<eval_cell>& cells, const command_context& context);

}  // namespace weft::launcher::study
