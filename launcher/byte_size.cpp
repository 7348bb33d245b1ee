#include <weft/launcher/byte_size.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

namespace weft::launcher {
namespace {

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 5> units{{
    {"B", 1},
    {"KiB", 1ULL << 10},
    {"MiB", 1ULL << 20},
    {"GiB", 1ULL << 30},
    {"TiB", 1ULL << 40},
}};

tl::unexpected<error> wrong_size(std::string_view text, std::string_view why) {
  return fail(errc::invalid_argument, "size \"" + std::string(text) + "\" " + std::string(why));
}

}  // namespace

result<std::uint64_t> parse_byte_size(std::string_view text) {
  double number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc{} || !std::isfinite(number)) {
    return wrong_size(text, "does not start with a number; write for example \"256 MiB\"");
  }
  if (number < 0) return wrong_size(text, "is negative");
  auto unit = text.substr(static_cast<std::size_t>(end - text.data()));
  while (!unit.empty() && unit.front() == ' ')
    unit.remove_prefix(1);
  while (!unit.empty() && unit.back() == ' ')
    unit.remove_suffix(1);
  for (const auto& [name, factor] : units) {
    if (unit != name) continue;
    const double bytes = number * static_cast<double>(factor);
    if (bytes >= 9.0e18) return wrong_size(text, "is more than any machine has");
    return static_cast<std::uint64_t>(std::llround(bytes));
  }
  if (unit.empty()) return wrong_size(text, "has no unit; write B, KiB, MiB, GiB or TiB after the number");
  return wrong_size(text,
                    "has an unknown unit `" + std::string(unit) + "`; there are B, KiB, MiB, GiB and TiB");
}

std::string format_bytes(std::uint64_t bytes) {
  std::size_t unit = 0;
  while (unit + 1 < units.size() && bytes >= units[unit + 1].second)
    ++unit;
  std::array<char, 32> text{};
  const double number = static_cast<double>(bytes) / static_cast<double>(units[unit].second);
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", number,
                units[unit].first.data());
  return text.data();
}

}  // namespace weft::launcher
