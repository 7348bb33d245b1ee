#include <weft/launcher/nearest_name.hpp>

#include <doctest/doctest.h>

#include <array>

using namespace weft::launcher;

namespace {
constexpr std::array<std::string_view, 4> keys{"replicas", "model", "tenant", "block_tokens"};
}

TEST_CASE("a name mistyped by a letter or two is recognised") {
  CHECK(nearest_name("replica", keys) == "replicas");
  CHECK(nearest_name("replcias", keys) == "replicas");
  CHECK(nearest_name("modle", keys) == "model");
  CHECK(nearest_name("block-tokens", keys) == "block_tokens");
}

TEST_CASE("what resembles nothing is answered with what there is") {
  CHECK_FALSE(nearest_name("colour", keys));
  CHECK_FALSE(nearest_name("", keys));
  CHECK_FALSE(nearest_name(std::string(100'000, 'a'), keys));
  CHECK(suggestion("colour", keys) == "; there are replicas, model, tenant and block_tokens");
  CHECK(suggestion("colour", {}).empty());
}
