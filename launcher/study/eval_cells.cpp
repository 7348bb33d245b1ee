#include "eval_cells.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace weft::launcher::study {

namespace {

using nlohmann::json;

void print_answers(const std::vector<eval_cell>& cells) {
  std::printf("%-14s %-8s %-18s %-9s %6s %-5s %-12s %5s %7s %15s %6s %10s %9s %9s\n", "set", "task",
              "importance", "budget", "ratio", "codec", "stitch", "n", "score", "95 %", "kept", "bytes",
              "recomp. %", "ttft ms");
  for (const auto& [set, stitch, cell, sparse, retrieved] : cells)
    if (!sparse && !retrieved)
      std::printf("%-14s %-8s %-18s %-9s %6g %-5s %-12s %5zu %7.1f %6.1f – %6.1f %6.3f %10.0f %9.1f %9.2f\n",
                  set.c_str(), cell.task.c_str(), cell.importance.c_str(), cell.budget.c_str(), cell.ratio,
                  kernels::name_of(cell.coding).data(), stitch.c_str(), cell.n, cell.score, cell.low,
                  cell.high, cell.kept_ratio, cell.bytes, 100 * cell.recomputed_share, cell.ttft_ms);
}

void print_sparse_answers(const std::vector<eval_cell>& cells) {
  std::printf("%-14s %-8s %-18s %-9s %6s %-13s %6s %7s %5s %6s %15s %11s %10s %8s\n", "set", "task",
              "importance", "budget", "ratio", "retrieval", "blocks", "stride", "n", "score", "95 %",
              "resident B", "moved B", "step ms");
  for (const auto& [set, stitch, cell, sparse, retrieved] : cells)
    if (sparse)
      std::printf("%-14s %-8s %-18s %-9s %6g %-13s %6.3f %7u %5zu %6.1f %6.1f – %6.1f %11.0f %10.0f %8.3f\n",
                  set.c_str(), cell.task.c_str(), cell.importance.c_str(), cell.budget.c_str(), cell.ratio,
                  sparse->retrieval.c_str(), sparse->ratio, sparse->stride, cell.n, cell.score, cell.low,
                  cell.high, cell.bytes, sparse->moved_bytes, sparse->step_ms);
}

void print_retrieved_answers(const std::vector<eval_cell>& cells) {
  std::printf("%-14s %-8s %-8s %8s %8s %5s %6s %15s %6s %15s\n", "set", "task", "pool", "of", "retrieve", "n",
              "recall", "95 %", "score", "95 %");
  for (const auto& cell : cells)
    if (const auto& r = cell.retrieved)
      std::printf("%-14s %-8s %-8s %8.1f %8zu %5zu %6.1f %6.1f – %6.1f %6.1f %6.1f – %6.1f\n",
                  cell.set.c_str(), cell.numbers.task.c_str(), r->pool.c_str(), r->pool_documents, r->chosen,
                  cell.numbers.n, r->recall, r->low, r->high, cell.numbers.score, cell.numbers.low,
                  cell.numbers.high);
}

}  // namespace

json json_of(const eval_cell& found) {
  const auto& cell = found.numbers;
  json out = {{"set", found.set},
              {"task", cell.task},
              {"importance", cell.importance},
              {"budget", cell.budget},
              {"ratio", cell.ratio},
              {"codec", kernels::name_of(cell.coding)},
              {"stitch", found.stitch},
              {"retrieval", found.sparse ? found.sparse->retrieval : "none"},
              {"sparse_ratio", found.sparse ? found.sparse->ratio : 1.0},
              {"n", cell.n},
              {"score", cell.score},
              {"low", cell.low},
              {"high", cell.high},
              {"kept_ratio", cell.kept_ratio},
              {"bytes", cell.bytes},
              {"recomputed_rows", cell.recomputed_rows},
              {"recomputed_share", cell.recomputed_share},
              {"ttft_ms", cell.ttft_ms},
              {"rotate_ms", cell.rotate_ms},
              {"compute_ms", cell.compute_ms}};
  if (const auto& r = found.retrieved) {
    out["retrieve"] = r->chosen;
    out["pool"] = r->pool;
    out["pool_documents"] = r->pool_documents;
    out["recall"] = r->recall;
    out["recall_low"] = r->low;
    out["recall_high"] = r->high;
  }
  if (!found.sparse) return out;
  out["stride"] = found.sparse->stride;
  out["moved_bytes"] = found.sparse->moved_bytes;
  out["late_loads"] = found.sparse->late_loads;
  out["step_ms"] = found.sparse->step_ms;
  return out;
}

void print_cells(const std::vector<eval_cell>& cells, const command_context& context) {
  if (context.json) {
    json document = {{"cells", json::array()}};
    for (const auto& cell : cells)
      document["cells"].push_back(json_of(cell));
    print_json(document);
    return;
  }
  const auto is_sparse = [](const eval_cell& cell) { return cell.sparse.has_value(); };
  const auto is_retrieved = [](const eval_cell& cell) { return cell.retrieved.has_value(); };
  if (std::ranges::any_of(cells, is_retrieved)) return print_retrieved_answers(cells);
  if (!std::ranges::all_of(cells, is_sparse)) print_answers(cells);
  if (std::ranges::any_of(cells, is_sparse)) print_sparse_answers(cells);
}

}  // namespace weft::launcher::study
