#include <weft/policies/decimal_ratio.hpp>

#include <array>
#include <charconv>
#include <utility>

namespace weft::policies {

namespace {

// Products of a 64-bit row count and a 64-bit numerator.
__extension__ using wide = unsigned __int128;

constexpr int most_decimals = 18;

tl::unexpected<error> refuse(std::string_view text) {
  std::string context("no ratio: ");
  context.append(text).append("; give a number from 0 to 1, such as 0.3");
  return fail(errc::invalid_argument, std::move(context));
}

}  // namespace

result<decimal_ratio> decimal_ratio::from(double value) {
  if (!(value >= 0.0 && value <= 1.0)) return refuse(std::to_string(value));
  std::array<char, 400> digits{};
  const auto written =
      std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::fixed);
  const std::string_view text(digits.data(), static_cast<std::size_t>(written.ptr - digits.data()));
  std::uint64_t numerator = 0;
  std::uint64_t denominator = 1;
  int decimals = 0;
  bool fraction = false;
  for (const char c : text) {
    if (c == '.') {
      fraction = true;
      continue;
    }
    if (fraction && ++decimals > most_decimals) return refuse(text);
    numerator = numerator * 10 + static_cast<std::uint64_t>(c - '0');
    if (fraction) denominator *= 10;
  }
  while (denominator > 1 && numerator % 10 == 0) {
    numerator /= 10;
    denominator /= 10;
  }
  return decimal_ratio(numerator, denominator);
}

result<decimal_ratio> decimal_ratio::parse(std::string_view text) {
  double value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size()) return refuse(text);
  const auto ratio = from(value);
  return ratio ? ratio : result<decimal_ratio>(refuse(text));
}

std::uint64_t decimal_ratio::of(std::uint64_t rows) const {
  return static_cast<std::uint64_t>((wide{rows} * numerator_ * 2 + denominator_) / (wide{denominator_} * 2));
}

bool operator<(const decimal_ratio& a, const decimal_ratio& b) {
  return wide{a.numerator_} * b.denominator_ < wide{b.numerator_} * a.denominator_;
}

}  // namespace weft::policies
