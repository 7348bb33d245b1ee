#include <weft/launcher/nearest_name.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace weft::launcher {
namespace {

// Damerau-Levenshtein distance with adjacent swaps.
std::size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i)
    d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j)
    d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({replaced, d[i - 1][j] + 1, d[i][j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::optional<std::string_view> nearest_name(std::string_view typed,
                                             std::span<const std::string_view> known) {
  // A name of several kilobytes is no typing mistake.
  if (known.empty() || typed.empty() || typed.size() > 64) return std::nullopt;
  std::string_view best;
  std::size_t best_edits = typed.size();
  for (const auto name : known) {
    const auto edits = edits_between(typed, name);
    if (edits < best_edits) {
      best = name;
      best_edits = edits;
    }
  }
  const std::size_t tolerated = std::max<std::size_t>(1, typed.size() / 3);
  if (best.empty() || best_edits > tolerated) return std::nullopt;
  return best;
}

std::string suggestion(std::string_view typed, std::span<const std::string_view> known) {
  if (const auto near = nearest_name(typed, known)) return "; did you mean `" + std::string(*near) + "`?";
  if (known.empty()) return {};
  std::string text = "; there " + std::string(known.size() == 1 ? "is " : "are ");
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (i > 0) text += i + 1 == known.size() ? " and " : ", ";
    text += known[i];
  }
  return text;
}

}  // namespace weft::launcher
