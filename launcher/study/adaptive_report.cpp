#include <weft/launcher/study/chart.hpp>
#include <weft/launcher/study/score.hpp>

#include <spdlog/fmt/fmt.h>

#include "adaptive_suite.hpp"
#include "text_file.hpp"

#include <algorithm>
#include <set>

namespace weft::launcher::study {

namespace {

// A method at a budget over all sets and tasks.
struct pooled {
  adaptive_run run;
  std::size_t n = 0;
  double right = 0, attention = 0, bytes = 0, share = 0, summaries = 0, books = 0, moved = 0, promotions = 0,
         on_time = 0, step_ms = 0, ttft_ms = 0;

  double mean(double sum) const { return n == 0 ? 0 : sum / static_cast<double>(n); }
  interval certain() const { return wilson(mean(right) / 100, n); }
};

template <class Wanted>
std::vector<pooled> pool(const std::vector<suite_cell>& cells, const Wanted& wanted) {
  std::vector<pooled> lines;
  for (const auto& found : cells) {
    if (!wanted(found)) continue;
    const auto& cell = found.cell;
    auto line = std::ranges::find_if(lines, [&](const pooled& known) {
      return known.run.name == cell.run.name && known.run.ratio == cell.run.ratio;
    });
    if (line == lines.end()) line = lines.insert(lines.end(), pooled{.run = cell.run});
    const auto weight = static_cast<double>(cell.answers.n);
    line->n += cell.answers.n;
    line->right += weight * cell.answers.score;
    line->attention += weight * cell.attention;
    line->bytes += weight * cell.resident_bytes;
    line->share += weight * cell.resident_bytes / std::max(1.0, cell.full_bytes);
    line->summaries += weight * cell.summary_bytes / std::max(1.0, cell.full_bytes);
    line->books += weight * cell.state_bytes / std::max(1.0, cell.full_bytes);
    line->moved += weight * cell.moved_bytes;
    line->promotions += weight * cell.promotions;
    line->on_time += weight * cell.on_time;
    line->step_ms += weight * cell.step_ms;
    line->ttft_ms += weight * cell.ttft_ms;
  }
  return lines;
}

bool is_late(const suite_cell& found) {
  return found.cell.answers.task == "late";
}

std::string markdown_table(const std::vector<pooled>& lines) {
  std::string out =
      "| method | ratio | n | score | 95 % | attention | bytes resident | of all | of these, summaries | "
      "books | bytes moved | promotions | on time | step ms | first token ms | tokens/s |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const auto& line : lines) {
    const auto certain = line.certain();
    const double step = line.mean(line.step_ms);
    out += fmt::format(
        "| {} | {:g} | {} | {:.1f} | {:.1f} – {:.1f} | {:.3f} | {:.0f} | {:.3f} | {:.3f} | {:.3f} | {:.0f} | "
        "{:.1f} | {:.0f} % | {:.3f} | {:.1f} | {:.0f} |\n",
        line.run.name, line.run.ratio, line.n, line.mean(line.right), 100 * certain.low, 100 * certain.high,
        line.mean(line.attention), line.mean(line.bytes), line.mean(line.share), line.mean(line.summaries),
        line.mean(line.books), line.mean(line.moved), line.mean(line.promotions),
        100 * line.mean(line.on_time), step, line.mean(line.ttft_ms), step > 0 ? 1000 / step : 0);
  }
  return out;
}

std::string task_table(const std::vector<suite_cell>& cells) {
  std::string out =
      "| set | task | method | ratio | n | score | 95 % | attention | of all bytes |\n"
      "|---|---|---|---|---|---|---|---|---|\n";
  for (const auto& [set, cell] : cells)
    out += fmt::format("| {} | {} | {} | {:g} | {} | {:.1f} | {:.1f} – {:.1f} | {:.3f} | {:.3f} |\n", set,
                       cell.answers.task, cell.run.name, cell.run.ratio, cell.answers.n, cell.answers.score,
                       cell.answers.low, cell.answers.high, cell.attention,
                       cell.resident_bytes / std::max(1.0, cell.full_bytes));
  return out;
}

std::string escaped_for_latex(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '_' || c == '%' || c == '&') out += '\\';
    out += c;
  }
  return out;
}

std::string latex_table(const std::vector<pooled>& lines, const std::string& caption) {
  std::string out =
      "\\begin{table}\n\\centering\n\\caption{" + escaped_for_latex(caption) +
      "}\n\\begin{tabular}{lrrrrrrr}\n\\hline\nmethod & ratio & $n$ & score & 95\\,\\% & attention & "
      "bytes & ms/token \\\\\n\\hline\n";
  for (const auto& line : lines) {
    const auto certain = line.certain();
    out += fmt::format("{} & {:g} & {} & {:.1f} & {:.1f}--{:.1f} & {:.3f} & {:.3f} & {:.3f} \\\\\n",
                       escaped_for_latex(line.run.name), line.run.ratio, line.n, line.mean(line.right),
                       100 * certain.low, 100 * certain.high, line.mean(line.attention),
                       line.mean(line.share), line.mean(line.step_ms));
  }
  return out + "\\hline\n\\end{tabular}\n\\end{table}\n";
}

std::vector<chart_series> score_series(const std::vector<pooled>& lines) {
  std::vector<chart_series> all;
  for (const auto& line : lines) {
    auto found = std::ranges::find(all, line.run.name, &chart_series::name);
    if (found == all.end()) found = all.insert(all.end(), {line.run.name, {}});
    const auto certain = line.certain();
    found->points.push_back(
        {line.mean(line.share), line.mean(line.right), 100 * certain.low, 100 * certain.high});
  }
  for (auto& series : all)
    std::ranges::stable_sort(series.points, {}, &chart_point::x);
  return all;
}

// Few enough lines to tell apart.
std::vector<pooled> drawn(const std::vector<pooled>& lines) {
  static const std::set<std::string> names{"full",  "streaming_llm",  "h2o",           "snapkv",
                                           "quest", "random",         "oracle global", "snapkv global",
                                           "atskv", "atskv published"};
  std::vector<pooled> kept;
  for (const auto& line : lines)
    if (names.contains(line.run.name)) kept.push_back(line);
  return kept;
}

std::string score_plot(const std::vector<pooled>& lines, const std::string& title) {
  return svg_of(line_chart{.title = title,
                           .x_label = "share of all rows' bytes that is resident (measured)",
                           .y_label = "right answers, % (95 % interval)",
                           .series = score_series(drawn(lines)),
                           .y_low = 0,
                           .y_high = 100});
}

template <class Y>
std::string points_plot(const std::vector<memory_point>& points, const std::string& title,
                        const std::string& x_label, const std::string& y_label, const Y& y) {
  std::vector<chart_series> all;
  for (const auto& point : points) {
    auto found = std::ranges::find(all, point.name, &chart_series::name);
    if (found == all.end()) found = all.insert(all.end(), {point.name, {}});
    found->points.push_back({.x = static_cast<double>(point.tokens), .y = y(point)});
  }
  return svg_of(line_chart{
      .title = title, .x_label = x_label, .y_label = y_label, .series = std::move(all), .y_low = 0});
}

std::string lengths_table(const std::vector<memory_point>& points) {
  std::string out =
      "| method | tokens | bytes resident | books | step ms | tokens/s |\n|---|---|---|---|---|---|\n";
  for (const auto& point : points)
    out += fmt::format("| {} | {} | {:.0f} | {:.0f} | {:.3f} | {:.0f} |\n", point.name, point.tokens,
                       point.resident_bytes, point.state_bytes, point.step_ms,
                       point.step_ms > 0 ? 1000 / point.step_ms : 0);
  return out;
}

class report_folder {
 public:
  explicit report_folder(const std::filesystem::path& folder) : folder_(folder) {}

  void write(const std::string& name, const std::string& text) {
    if (done_) done_ = write_text_file(folder_ / name, text);
  }
  const result<void>& done() const { return done_; }

 private:
  std::filesystem::path folder_;
  result<void> done_;
};

}  // namespace

result<void> write_adaptive_report(const std::filesystem::path& folder, const std::string& title,
                                   const suite_results& results) {
  std::error_code made;
  std::filesystem::create_directories(folder, made);
  if (made) return fail(errc::io, folder.string() + ": " + made.message());
  const auto method = [](const suite_cell& found) { return !found.cell.run.ablation; };
  const auto usual = pool(results.cells, [&](const auto& c) { return method(c) && !is_late(c); });
  const auto late = pool(results.cells, [&](const auto& c) { return method(c) && is_late(c); });
  const auto ablations = pool(results.cells, [&](const auto& c) { return !method(c) && !is_late(c); });
  const auto late_ablations = pool(results.cells, [&](const auto& c) { return !method(c) && is_late(c); });

  std::string text =
      "# " + title +
      "\n\nContexts are compressed before any question is known. `ratio`: rows that the method may "
      "hold of the context. `attention`: share of the full attention that falls on the rows a step "
      "reads. Bytes and times are measured. `bytes resident`, the most at a time: pages of the decode cache, "
      "and `summaries`, sketches or bounds of passive rows. `of all`, `summaries`, `books`: as shares of "
      "what all rows would take; `books` are the policy's and the session's own, not counted as resident. "
      "Answers by exact match, with Wilson's 95 % interval.\n";
  report_folder files(folder);
  const auto section = [&](const std::string& heading, const std::string& caption,
                           const std::vector<pooled>& lines) {
    if (!lines.empty()) text += "\n## " + heading + "\n\n" + caption + "\n\n" + markdown_table(lines);
  };
  section("Methods", "All sets but `late` together.\n\n![score by memory](score.svg)", usual);
  section("Facts that are needed late", "The `late` sets.\n\n![score by memory, late](late.svg)", late);
  section("Ablations", "All sets but `late` together.", ablations);
  section("Ablations, facts that are needed late", "The `late` sets.", late_ablations);
  text +=
      "\n## Memory while generating\n\nA prompt of 512 arbitrary tokens, 256 rows for each head.\n\n"
      "![memory](memory.svg)\n\n" +
      lengths_table(results.memory);
  text +=
      "\n## Steps behind long prompts\n\n256 rows for each head; the median of 100 steps.\n\n"
      "![throughput](throughput.svg)\n\n" +
      lengths_table(results.lengths);
  text += "\n## Each set and task\n\n" + task_table(results.cells);

  files.write("score.svg", score_plot(usual, "Score by memory"));
  files.write("late.svg", score_plot(late, "Score by memory, facts that are needed late"));
  files.write("memory.svg", points_plot(results.memory, "Memory while generating", "tokens in the session",
                                        "bytes of rows, sketches or bounds",
                                        [](const memory_point& p) { return p.resident_bytes; }));
  files.write(
      "throughput.svg",
      points_plot(results.lengths, "Steps behind long prompts", "tokens in the session", "tokens per second",
                  [](const memory_point& p) { return p.step_ms > 0 ? 1000 / p.step_ms : 0; }));
  files.write("tables.tex", latex_table(usual, "Methods, all sets but late") + "\n" +
                                latex_table(late, "Methods, facts that are needed late") + "\n" +
                                latex_table(ablations, "Ablations, all sets but late") + "\n" +
                                latex_table(late_ablations, "Ablations, facts that are needed late"));
  files.write("report.md", text);
  return files.done();
}

}  // namespace weft::launcher::study
