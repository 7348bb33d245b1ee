#include <weft/schema/checksum.hpp>

#include <doctest/doctest.h>

#include <string>
#include <utility>

using namespace weft::schema;

TEST_CASE("the checksum is XXH3-64") {
  // The published value of the empty input with seed 0.
  CHECK(checksum_of(std::string_view()) == 0x2d06800538d394c2ULL);
}

TEST_CASE("pieces have the checksum of the whole, however they are cut") {
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text += static_cast<char>(i * 7);
  for (const std::size_t cut : {0u, 1u, 240u, 255u, 256u, 999u, 1000u}) {
    running_checksum sum;
    sum.add(std::as_bytes(std::span(text).first(cut)));
    auto moved = std::move(sum);
    moved.add(std::as_bytes(std::span(text).subspan(cut)));
    CHECK(moved.value() == checksum_of(text));
  }
}
