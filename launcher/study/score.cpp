#include <weft/launcher/study/score.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <sstream>
#include <vector>

namespace weft::launcher::study {

namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n";
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

bool is_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

std::vector<std::string> words_of(std::string_view text) {
  std::string kept;
  for (const char c : text) {
    if (is_punctuation(c)) continue;
    kept.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  std::vector<std::string> words;
  std::istringstream in(kept);
  for (std::string word; in >> word;)
    if (word != "a" && word != "an" && word != "the") words.push_back(word);
  return words;
}

double f1_of(const std::vector<std::string>& answer, const std::vector<std::string>& wanted) {
  std::map<std::string, std::size_t> left;
  for (const auto& word : wanted)
    ++left[word];
  std::size_t common = 0;
  for (const auto& word : answer) {
    const auto it = left.find(word);
    if (it == left.end() || it->second == 0) continue;
    --it->second;
    ++common;
  }
  if (common == 0) return 0;
  const auto shared = static_cast<double>(common);
  const double precision = shared / static_cast<double>(answer.size());
  const double recall = shared / static_cast<double>(wanted.size());
  return 2 * precision * recall / (precision + recall);
}

}  // namespace

metric metric_of(std::string_view task) {
  constexpr std::array<std::string_view, 6> named{"musique",           "nq",       "squad",
                                                  "natural_questions", "triviaqa", "f1"};
  const bool answers_questions =
      task.find("qa") != std::string_view::npos || std::ranges::find(named, task) != named.end();
  return answers_questions ? metric::f1 : metric::exact_match;
}

double exact_match(std::string_view answer, std::span<const std::string> wanted) {
  return std::ranges::any_of(wanted, [&](const auto& text) { return trimmed(text) == trimmed(answer); }) ? 1
                                                                                                         : 0;
}

double word_f1(std::string_view answer, std::span<const std::string> wanted) {
  const auto words = words_of(answer);
  double best = 0;
  for (const auto& text : wanted)
    best = std::max(best, f1_of(words, words_of(text)));
  return best;
}

interval wilson(double share, std::size_t n) {
  if (n == 0) return {};
  constexpr double z = 1.959963984540054;
  const auto count = static_cast<double>(n);
  const double centre = share + z * z / (2 * count);
  const double spread = z * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  const double scale = 1 + z * z / count;
  return {std::max(0.0, (centre - spread) / scale), std::min(1.0, (centre + spread) / scale)};
}

double mean(std::span<const double> values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace weft::launcher::study
