#include <weft/engine/model_config.hpp>

#include <doctest/doctest.h>

TEST_CASE("a folder without config.json is not found") {
  const auto config = weft::engine::load_model_config("/nonexistent");
  REQUIRE(!config);
  CHECK(config.error().code == weft::errc::not_found);
}
