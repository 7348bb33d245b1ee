#include <weft/base/id128.hpp>

#include <doctest/doctest.h>

TEST_CASE("an id survives the way through hexadecimal") {
  const weft::id128 id{0x0123456789abcdefULL, 0xfedcba9876543210ULL};
  CHECK(weft::to_hex(id) == "0123456789abcdeffedcba9876543210");
  CHECK(weft::id128_from_hex(weft::to_hex(id)) == id);
}

TEST_CASE("what is not exactly 32 lower-case digits is refused") {
  CHECK(!weft::id128_from_hex(""));
  CHECK(!weft::id128_from_hex("0123456789abcdeffedcba987654321"));
  CHECK(!weft::id128_from_hex("0123456789abcdeffedcba98765432100"));
  CHECK(!weft::id128_from_hex("0123456789abcdeffedcba987654321G"));
  CHECK(!weft::id128_from_hex("0x23456789abcdeffedcba9876543210a"));
}
