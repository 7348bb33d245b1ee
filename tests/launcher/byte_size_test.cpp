#include <weft/launcher/byte_size.hpp>

#include <doctest/doctest.h>

using namespace weft::launcher;

TEST_CASE("sizes are numbers with a binary unit") {
  CHECK(parse_byte_size("256 MiB") == 256ULL << 20);
  CHECK(parse_byte_size("1GiB") == 1ULL << 30);
  CHECK(parse_byte_size("1.5 KiB") == 1536);
  CHECK(parse_byte_size("4096 B") == 4096);
  CHECK(parse_byte_size("2 TiB ") == 2ULL << 40);
}

TEST_CASE("what is no size says why") {
  for (const auto* text :
       {"", "MiB", "256", "256 MB", "-1 MiB", "nan MiB", "inf GiB", "1e30 TiB", "1 MiB or so"}) {
    CAPTURE(text);
    const auto size = parse_byte_size(text);
    REQUIRE_FALSE(size);
    CHECK(size.error().code == weft::errc::invalid_argument);
    CHECK(size.error().context.find(text) != std::string::npos);
  }
  CHECK(parse_byte_size("256 MB").error().context.find("MiB") != std::string::npos);
}

TEST_CASE("sizes are shown in the unit that fits") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.0 KiB");
  CHECK(format_bytes(3670016) == "3.5 MiB");
}
