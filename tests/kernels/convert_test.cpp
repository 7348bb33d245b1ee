#include <weft/kernels/convert.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/convert.hpp>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace weft::kernels {
namespace {

std::uint16_t converted(dtype type, float value) {
  // More than a vector, so that lanes and the scalar rest both take part.
  const std::vector<float> in(37, value);
  std::vector<std::uint16_t> out(in.size());
  from_f32(type, in.data(), reinterpret_cast<std::byte*>(out.data()), in.size());
  for (const std::uint16_t bits : out)
    REQUIRE(bits == out[0]);
  return out[0];
}

std::vector<float> telling_values(std::uint32_t seed) {
  testing::random_source random(seed);
  std::vector<float> values = {
      0.0F,     -0.0F,     1.0F,       65504.0F, 65519.9F,
      65520.0F, -65536.0F, 0x1p-24F,   0x1p-25F, 0x1.8p-25F,
      0x1p-14F, 1e-40F,    3.3895e38F, 3.4e38F,  std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 700; ++i) {
    const float value = std::bit_cast<float>(random.between(0, 0xFFFFFFFFU));
    if (!std::isnan(value)) values.push_back(value);
    // Near f16's range, and halfway between neighbours.
    values.push_back(std::ldexp(1.0F + static_cast<float>(random.between(0, 4095)) / 2048.0F,
                                static_cast<int>(random.between(0, 45)) - 28));
  }
  return values;
}

TEST_CASE("narrowing rounds to the nearest value, ties to even") {
  testing::on_every_target([] {
    for (const float value : telling_values(11)) {
      CAPTURE(value);
      CHECK(converted(dtype::bf16, value) == reference::narrow(reference::bf16_format, value));
      CHECK(converted(dtype::f16, value) == reference::narrow(reference::f16_format, value));
    }
    CHECK(std::isnan(reference::widen(reference::bf16_format, converted(dtype::bf16, NAN))));
    CHECK(std::isnan(reference::widen(reference::f16_format, converted(dtype::f16, NAN))));
    const float all_ones = std::bit_cast<float>(0x7FFFFFFFU);
    CHECK(std::isnan(reference::widen(reference::bf16_format, converted(dtype::bf16, all_ones))));
  });
}

TEST_CASE("operands of products round like all else, but subnormal ones may be zero") {
  testing::on_every_target([] {
    for (const float value : telling_values(12))
      for (const auto type : {dtype::bf16, dtype::f16}) {
        CAPTURE(value);
        std::vector<std::uint16_t> out(37);
        const std::vector<float> in(out.size(), value);
        operands_from_f32(type, in.data(), reinterpret_cast<std::byte*>(out.data()), in.size());
        const auto expected = converted(type, value);
        const bool subnormal = type == dtype::bf16 && std::fabs(value) < std::numeric_limits<float>::min();
        for (const std::uint16_t bits : out)
          CHECK((bits == expected || (subnormal && (bits & 0x7FFFU) == 0)));
      }
  });
}

TEST_CASE("widening gives the value of all 65536 patterns") {
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i)
    patterns[i] = static_cast<std::uint16_t>(i);
  testing::on_every_target([&] {
    for (const auto& [type, format] :
         {std::pair{dtype::bf16, reference::bf16_format}, std::pair{dtype::f16, reference::f16_format}}) {
      std::vector<float> wide(patterns.size());
      to_f32(type, reinterpret_cast<const std::byte*>(patterns.data()), wide.data(), wide.size());
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < wide.size(); ++i) {
        const double expected = reference::widen(format, patterns[i]);
        wrong += std::isnan(expected) ? !std::isnan(wide[i]) : expected != double{wide[i]};
      }
      CHECK(wrong == 0);
    }
  });
}

TEST_CASE("any number of elements at any address") {
  testing::random_source random(5);
  for (std::size_t count = 0; count < 70; ++count) {
    const std::vector<float> values = random.values(count + 1);
    std::vector<std::uint16_t> narrow(count + 2, 0xBEEF);
    from_f32(dtype::bf16, values.data() + 1, reinterpret_cast<std::byte*>(narrow.data() + 1), count);
    for (std::size_t i = 0; i < count; ++i) {
      REQUIRE(narrow[i + 1] == reference::narrow(reference::bf16_format, values[i + 1]));
    }
    CHECK(narrow[0] == 0xBEEF);
    CHECK(narrow[count + 1] == 0xBEEF);
  }
}

}  // namespace
}  // namespace weft::kernels
