#include <weft/base/error.hpp>

#include <doctest/doctest.h>

TEST_CASE("an error names its kind and its context") {
  const weft::result<int> r =
      weft::fail(weft::errc::not_found, "no document 12; `weft documents` lists them");
  REQUIRE(!r);
  CHECK(weft::to_string(r.error()) == "not_found: no document 12; `weft documents` lists them");
}

TEST_CASE("a code out of range is rendered, not read past the table") {
  CHECK(weft::name_of(static_cast<weft::errc>(200)) == "unknown");
}
