#include <weft/base/shortest_decimal.hpp>

#include <doctest/doctest.h>

#include <limits>

using weft::shortest_decimal;

TEST_CASE("numbers are shown with the digits that mean them") {
  CHECK(shortest_decimal(0.0) == "0");
  CHECK(shortest_decimal(0.3) == "0.3");
  CHECK(shortest_decimal(0.7F) == "0.7");
  CHECK(shortest_decimal(-1234.5) == "-1234.5");
  CHECK(shortest_decimal(1e-7) == "1e-07");
  CHECK(shortest_decimal(std::numeric_limits<double>::lowest()) == "-1.7976931348623157e+308");
}
