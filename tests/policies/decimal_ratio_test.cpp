#include <weft/policies/decimal_ratio.hpp>

#include <doctest/doctest.h>

using namespace weft;
using weft::policies::decimal_ratio;

TEST_CASE("row counts are those of the written decimal") {
  // 100 * 0.29 is 28.999999999999996 in binary.
  CHECK(decimal_ratio::from(0.29).value().of(100) == 29);
  CHECK(decimal_ratio::parse("0.29").value().of(100) == 29);
  CHECK(decimal_ratio::parse("0.3").value().of(5) == 2);  // 1.5 is rounded up
  CHECK(decimal_ratio::parse("0.1").value().of(4) == 0);
  CHECK(decimal_ratio::parse("0.1").value().of(5) == 1);
  CHECK(decimal_ratio::parse("1").value().of(12345678901234567U) == 12345678901234567U);
  CHECK(decimal_ratio::parse("0.000000000000000001").value().of(1500000000000000000U) == 2);
  CHECK(decimal_ratio::parse("0").value().of(7) == 0);
  CHECK(decimal_ratio().of(7) == 7);
}

TEST_CASE("equal decimals are equal however they are written") {
  CHECK(decimal_ratio::parse("0.50").value() == decimal_ratio::from(0.5).value());
  CHECK(decimal_ratio::parse("5e-1").value() == decimal_ratio::from(0.5).value());
  CHECK(decimal_ratio::parse("1.0").value() == decimal_ratio());
  CHECK(decimal_ratio::from(0.29).value() < decimal_ratio::from(0.3).value());
  CHECK_FALSE(decimal_ratio::from(0.3).value() < decimal_ratio::from(0.3).value());
}

TEST_CASE("what is no ratio is refused by name") {
  for (const char* text : {"", "x", "0.3x", "1.5", "-0.1", "nan", "inf", "1e-30"}) {
    CAPTURE(text);
    const auto ratio = decimal_ratio::parse(text);
    REQUIRE(!ratio);
    CHECK(ratio.error().code == errc::invalid_argument);
  }
  CHECK(decimal_ratio::parse("1.5").error().context.find("1.5") != std::string::npos);
}
