// A fraction of rows as people write it: 0.29 is 29/100 and not the binary number beside it, so that 0.29 of
// 100 rows is 29.
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::policies {

class decimal_ratio {
 public:
  constexpr decimal_ratio() = default;  // 1: everything

  // "0.3", "1", "5e-2". `invalid_argument` for what is no number from 0 to 1 of at most 18 decimals.
  static result<decimal_ratio> parse(std::string_view text);
  // The shortest decimal that reads back as `value`.
  static result<decimal_ratio> from(double value);

  // floor(rows * ratio + 1/2)
  std::uint64_t of(std::uint64_t rows) const;
  double value() const { return static_cast<double>(numerator_) / static_cast<double>(denominator_); }

  friend bool operator==(const decimal_ratio& a, const decimal_ratio& b) = default;
  friend bool operator<(const decimal_ratio& a, const decimal_ratio& b);

 private:
  constexpr decimal_ratio(std::uint64_t numerator, std::uint64_t denominator)
      : numerator_(numerator), denominator_(denominator) {}

  std::uint64_t numerator_ = 1;
  std::uint64_t denominator_ = 1;  // a power of ten; no common factor of ten
};

}  // namespace weft::policies
