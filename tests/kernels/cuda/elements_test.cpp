#include "cuda/elements.hpp"

#include <doctest/doctest.h>

#include "reference/convert.hpp"

#include <cmath>
#include <random>

namespace reference = weft::kernels::reference;
using namespace weft::kernels::cuda;

namespace {

template <class Elements>
void check_all_values(const reference::narrow_format& format) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto stored = static_cast<std::uint16_t>(bits);
    const double expected = reference::widen(format, stored);
    const float widened = Elements::widen(stored);
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(widened));
      REQUIRE(std::isnan(Elements::widen(Elements::narrow(widened))));
      continue;
    }
    REQUIRE(double{widened} == expected);
    REQUIRE(Elements::narrow(widened) == stored);
  }
}

template <class Elements>
void check_rounding(const reference::narrow_format& format) {
  std::mt19937 random(7);
  for (int i = 0; i < 200'000; ++i) {
    const auto x = bits_as<float>(static_cast<std::uint32_t>(random()));
    if (!std::isnan(x)) REQUIRE(Elements::narrow(x) == reference::narrow(format, x));
  }
  // Halfway between neighbours, and just beside it.
  for (std::uint32_t bits = 0; bits < 0x7000; bits += 7) {
    const double low = reference::widen(format, static_cast<std::uint16_t>(bits));
    const double high = reference::widen(format, static_cast<std::uint16_t>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    for (const float x : {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, INFINITY), -middle})
      REQUIRE(Elements::narrow(x) == reference::narrow(format, x));
  }
}

}  // namespace

TEST_CASE("every bf16 and f16 value widens exactly and comes back") {
  check_all_values<bf16_elements>(reference::bf16_format);
  check_all_values<f16_elements>(reference::f16_format);
}

TEST_CASE("narrowing takes the nearest value, the even one of two") {
  check_rounding<bf16_elements>(reference::bf16_format);
  check_rounding<f16_elements>(reference::f16_format);
}
