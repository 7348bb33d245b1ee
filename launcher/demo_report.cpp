#include "demo_report.hpp"

#include <weft/launcher/byte_size.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <iomanip>
#include <map>
#include <numeric>
#include <set>
#include <string_view>

namespace weft::launcher {
namespace {

using nlohmann::json;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n";
  const auto first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

std::uint64_t bytes_of(const client::ask_result& result) {
  return std::accumulate(result.transfers.begin(), result.transfers.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const auto& transfer) { return sum + transfer.bytes; });
}

std::set<std::string> holders_of(const client::ask_result& result) {
  std::set<std::string> names;
  for (const auto& transfer : result.transfers)
    names.insert(transfer.holder);
  return names;
}

std::set<std::string> transports_of(const client::ask_result& result) {
  std::set<std::string> names;
  for (const auto& transfer : result.transfers)
    names.insert(transfer.transport);
  return names;
}

std::string joined(const std::set<std::string>& names, std::string_view separator) {
  std::string text;
  for (const auto& name : names)
    text += (text.empty() ? "" : std::string(separator)) + name;
  return text;
}

// "260.9 KiB from storage-1 by shm, 261.0 KiB from storage-2 by tcp"
std::string sources_of(const client::ask_result& result) {
  std::map<std::pair<std::string, std::string>, std::uint64_t> bytes;
  for (const auto& transfer : result.transfers)
    bytes[{transfer.holder, transfer.transport}] += transfer.bytes;
  std::string text;
  for (const auto& [source, amount] : bytes) {
    text +=
        (text.empty() ? "" : ", ") + format_bytes(amount) + " from " + source.first + " by " + source.second;
  }
  return text.empty() ? "nothing from the pool" : text;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::size_t count(const std::vector<demo_answer>& answers, bool (*holds)(const demo_answer&)) {
  return static_cast<std::size_t>(std::count_if(answers.begin(), answers.end(), holds));
}

}  // namespace

bool is_correct(const demo_answer& a) {
  return trimmed(a.stitched.answer) == trimmed(a.expected);
}
bool same_as_local(const demo_answer& a) {
  return a.stitched.answer == a.local;
}

void print_answer(std::ostream& out, const demo_answer& a) {
  out << "Q  " << a.question << "\nA  " << a.stitched.answer;
  if (!is_correct(a)) out << "  (right: " << a.expected << ")";
  out << "\n   " << sources_of(a.stitched) << std::fixed << std::setprecision(1) << "; first token "
      << a.stitched.ttft_ms << " ms, recomputing all " << a.recomputed.ttft_ms << " ms; "
      << (same_as_local(a) ? "same as" : "DIFFERS from") << " one process\n"
      << std::flush;
}

void print_summary(std::ostream& out, const std::vector<demo_answer>& answers) {
  std::map<std::string, std::uint64_t> bytes_by_holder;
  std::vector<double> stitched_ms;
  std::vector<double> recomputed_ms;
  for (const auto& a : answers) {
    for (const auto& transfer : a.stitched.transfers)
      bytes_by_holder[transfer.holder] += transfer.bytes;
    stitched_ms.push_back(a.stitched.ttft_ms);
    recomputed_ms.push_back(a.recomputed.ttft_ms);
  }
  out << "\n"
      << count(answers, is_correct) << " of " << answers.size() << " answers are right, "
      << count(answers, same_as_local) << " are those of one process\n";
  for (const auto& [holder, bytes] : bytes_by_holder)
    out << format_bytes(bytes) << " came from " << holder << "\n";
  out << std::fixed << std::setprecision(1) << "first token, median: " << median(stitched_ms)
      << " ms with documents out of the pool, " << median(recomputed_ms) << " ms recomputing them\n"
      << std::flush;
}

json demo_document(const std::vector<demo_answer>& answers) {
  json questions = json::array();
  for (const auto& a : answers) {
    questions.push_back({{"question", a.question},
                         {"answer", a.stitched.answer},
                         {"expected", a.expected},
                         {"same_as_local", same_as_local(a)},
                         {"ttft_ms", a.stitched.ttft_ms},
                         {"recompute_ttft_ms", a.recomputed.ttft_ms},
                         {"bytes", bytes_of(a.stitched)},
                         {"transport", joined(transports_of(a.stitched), "+")},
                         {"holders", holders_of(a.stitched)},
                         {"misses", a.stitched.misses}});
  }
  return {{"questions", questions}, {"correct", count(answers, is_correct)}, {"total", answers.size()}};
}

}  // namespace weft::launcher
