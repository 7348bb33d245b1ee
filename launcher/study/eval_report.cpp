#include "eval_report.hpp"

#include <weft/launcher/study/chart.hpp>
#include <weft/launcher/study/score.hpp>

#include <spdlog/fmt/fmt.h>

#include "text_file.hpp"

#include <algorithm>

namespace weft::launcher::study {

namespace {

// Cells that differ in nothing but set and task are one line of the report.
struct report_line {
  std::string series;  // policy, budget and stitching
  double x = 1;        // what the series goes over
  double right = 0;    // answers, in per cent times n
  double kept_ratio = 0, bytes = 0, recomputed_share = 0, first_token_ms = 0, step_ms = 0, moved_bytes = 0;
  std::size_t n = 0;

  double mean(double sum) const { return n == 0 ? 0 : sum / static_cast<double>(n); }
  interval certain() const { return wilson(mean(right) / 100, n); }
};

std::string series_of(const eval_cell& cell) {
  const auto& numbers = cell.numbers;
  if (cell.sparse) {
    auto name = cell.sparse->retrieval;
    if (cell.sparse->stride > 0 && name.starts_with("kvstar"))
      name += fmt::format(", stride {}", cell.sparse->stride);
    if (numbers.importance == "none") return name;
    return name + fmt::format(", {} {} at {:g}", numbers.importance, numbers.budget, numbers.ratio);
  }
  const std::string codec =
      numbers.coding == kernels::row_codec::raw ? "" : fmt::format(", {}", kernels::name_of(numbers.coding));
  if (numbers.importance == "none") return "stitch " + cell.stitch + codec;
  std::string name = numbers.importance;
  if (numbers.budget != "global") name += ", " + numbers.budget;
  return name + codec;
}

double x_of(const eval_cell& cell) {
  if (cell.sparse) return cell.sparse->ratio;
  return cell.numbers.importance == "none" ? cell.numbers.recomputed_share : cell.numbers.ratio;
}

std::string x_label_of(const eval_cell& cell) {
  if (cell.sparse) return "share of the middle blocks that is attended";
  return cell.numbers.importance == "none" ? "share of document rows computed again" : "ratio of rows kept";
}

std::vector<report_line> lines_of(const std::vector<eval_cell>& cells) {
  std::vector<report_line> lines;
  for (const auto& cell : cells) {
    const auto series = series_of(cell);
    // How many rows a policy computes again depends on the set: there the series alone is the line.
    const bool one_point = !cell.sparse && cell.numbers.importance == "none";
    auto found = std::ranges::find_if(lines, [&](const report_line& line) {
      return line.series == series && (one_point || line.x == x_of(cell));
    });
    if (found == lines.end()) found = lines.insert(lines.end(), {.series = series, .x = x_of(cell)});
    const auto weight = static_cast<double>(cell.numbers.n);
    found->n += cell.numbers.n;
    found->right += weight * cell.numbers.score;
    found->kept_ratio += weight * cell.numbers.kept_ratio;
    found->bytes += weight * cell.numbers.bytes;
    found->recomputed_share += weight * cell.numbers.recomputed_share;
    found->first_token_ms += weight * cell.numbers.ttft_ms;
    if (cell.sparse) {
      found->step_ms += weight * cell.sparse->step_ms;
      found->moved_bytes += weight * cell.sparse->moved_bytes;
    }
    if (one_point) found->x = found->mean(found->recomputed_share);
  }
  return lines;
}

template <class X, class Y>
std::vector<chart_series> series_by(const std::vector<report_line>& lines, const X& x, const Y& point_at) {
  std::vector<chart_series> all;
  for (const auto& line : lines) {
    auto found = std::ranges::find(all, line.series, &chart_series::name);
    if (found == all.end()) found = all.insert(all.end(), {line.series, {}});
    found->points.push_back(point_at(line, x(line)));
  }
  for (auto& series : all)
    std::ranges::stable_sort(series.points, {}, &chart_point::x);
  return all;
}

chart_point accuracy_at(const report_line& line, double x) {
  const auto certain = line.certain();
  return {x, line.mean(line.right), 100 * certain.low, 100 * certain.high};
}

std::string accuracy_plot(const std::vector<report_line>& lines, const std::string& x_label) {
  return svg_of(line_chart{.title = "Accuracy",
                           .x_label = x_label,
                           .y_label = "right answers, % (95 % interval)",
                           .series = series_by(
                               lines, [](const auto& line) { return line.x; }, accuracy_at),
                           .y_low = 0,
                           .y_high = 100});
}

std::string bytes_plot(const std::vector<report_line>& lines) {
  const auto bytes = [](const report_line& line) { return line.mean(line.bytes); };
  return svg_of(line_chart{.title = "Accuracy by memory",
                           .x_label = "bytes of K and V that an answer is read from",
                           .y_label = "right answers, % (95 % interval)",
                           .series = series_by(lines, bytes, accuracy_at),
                           .y_low = 0,
                           .y_high = 100});
}

std::string time_plot(const std::vector<report_line>& lines, const std::string& x_label) {
  const auto time = [](const report_line& line, double x) {
    return chart_point{x, line.mean(line.first_token_ms)};
  };
  return svg_of(line_chart{.title = "Time to the first token",
                           .x_label = x_label,
                           .y_label = "ms (median of each task)",
                           .series = series_by(
                               lines, [](const auto& line) { return line.x; }, time),
                           .y_low = 0});
}

std::string pooled_table(const std::vector<report_line>& lines, bool sparse) {
  std::string out = sparse
                        ? "| | ratio | n | score | 95 % | bytes | moved bytes | step ms | first token ms |\n"
                          "|---|---|---|---|---|---|---|---|---|\n"
                        : "| | ratio | n | score | 95 % | kept | bytes | rows computed again | first token "
                          "ms |\n|---|---|---|---|---|---|---|---|---|\n";
  for (const auto& line : lines) {
    const auto certain = line.certain();
    out += fmt::format("| `{}` | {:.4g} | {} | {:.1f} | {:.1f} – {:.1f} | ", line.series, line.x, line.n,
                       line.mean(line.right), 100 * certain.low, 100 * certain.high);
    out += sparse ? fmt::format("{:.0f} | {:.0f} | {:.3f} | {:.2f} |\n", line.mean(line.bytes),
                                line.mean(line.moved_bytes), line.mean(line.step_ms),
                                line.mean(line.first_token_ms))
                  : fmt::format("{:.3f} | {:.0f} | {:.1f} % | {:.2f} |\n", line.mean(line.kept_ratio),
                                line.mean(line.bytes), 100 * line.mean(line.recomputed_share),
                                line.mean(line.first_token_ms));
  }
  return out;
}

std::string cell_table(const std::vector<eval_cell>& cells) {
  std::string out = "| set | task | | ratio | n | score | 95 % |\n|---|---|---|---|---|---|---|\n";
  for (const auto& cell : cells)
    out += fmt::format("| {} | {} | `{}` | {:.4g} | {} | {:.1f} | {:.1f} – {:.1f} |\n", cell.set,
                       cell.numbers.task, series_of(cell), x_of(cell), cell.numbers.n, cell.numbers.score,
                       cell.numbers.low, cell.numbers.high);
  return out;
}

}  // namespace

result<void> write_report(const std::filesystem::path& folder, const std::string& title,
                          const std::vector<eval_cell>& cells) {
  if (cells.empty()) return fail(errc::invalid_argument, "there is nothing to report; the sets are empty");
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) return fail(errc::io, "cannot make " + folder.string() + ": " + failed.message());
  const auto lines = lines_of(cells);
  const auto x_label = x_label_of(cells.front());
  const bool sparse = cells.front().sparse.has_value();
  const std::pair<const char*, std::string> files[] = {
      {"accuracy.svg", accuracy_plot(lines, x_label)},
      {"bytes.svg", bytes_plot(lines)},
      {"time.svg", time_plot(lines, x_label)},
      {"report.md", "# " + title + "\n\nRatio: " + x_label + ". Sets and tasks pooled:\n\n" +
                        pooled_table(lines, sparse) +
                        "\n![accuracy](accuracy.svg)\n\n![bytes](bytes.svg)\n\n![time](time.svg)\n\n" +
                        "By set and task:\n\n" + cell_table(cells)}};
  for (const auto& [name, text] : files)
    if (auto written = write_text_file(folder / name, text); !written) return written;
  return {};
}

}  // namespace weft::launcher::study
