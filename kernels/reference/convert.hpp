// Rounding to a narrow type by search: the nearest of all its values, ties to the even one.
#pragma once

#include <cmath>
#include <cstdint>

namespace weft::kernels::reference {

// A format of 16 bits with `exponent_bits` and an IEEE layout.
struct narrow_format {
  int exponent_bits;
  int mantissa_bits() const { return 15 - exponent_bits; }
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};

inline constexpr narrow_format bf16_format{8};
inline constexpr narrow_format f16_format{5};

inline double widen(const narrow_format& format, std::uint16_t bits) {
  const int mantissa_bits = format.mantissa_bits();
  const int exponent = (bits & 0x7FFF) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << format.exponent_bits) - 1) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - format.bias() - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - format.bias() - mantissa_bits);
}

// For a value that is no NaN. Magnitudes grow with their bits, so a binary search finds the neighbours.
inline std::uint16_t narrow(const narrow_format& format, float value) {
  const double magnitude = std::fabs(double{value});
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const auto infinity =
      static_cast<std::uint16_t>(0x7FFF >> format.mantissa_bits() << format.mantissa_bits());
  std::uint16_t low = 0;
  std::uint16_t high = infinity;
  if (std::isinf(magnitude)) return sign | infinity;
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (widen(format, middle) <= magnitude ? low : high) = middle;
  }
  // Infinity stands where the next value would be.
  const double below = widen(format, low);
  const double above = high == infinity ? std::ldexp(1.0, format.bias() + 1) : widen(format, high);
  const double down = magnitude - below;
  const double up = above - magnitude;
  const bool take_low = down < up || (down == up && low % 2 == 0);
  return static_cast<std::uint16_t>(sign | (take_low ? low : high));
}

}  // namespace weft::kernels::reference
