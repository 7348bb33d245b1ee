#include <weft/engine/link_tokens.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

using namespace weft::engine;
using weft::errc;

namespace {

model_config trained_with(std::vector<std::uint32_t> links) {
  model_config config;
  config.weft.emplace();
  config.weft->link_tokens = std::move(links);
  return config;
}

}  // namespace

TEST_CASE("a model without trained link tokens refuses them with the reason") {
  const auto recall = load_model_config(std::string(WEFT_SOURCE_DIR) + "/models/recall");
  REQUIRE(recall);
  for (const auto& config : {model_config{}, trained_with({}), *recall}) {
    const auto refused = link_tokens(config, 5, 2);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::unsupported);
    CHECK(refused.error().context.find("trained without link tokens") != std::string::npos);
    CHECK(link_tokens(config, 0, 2).value() == std::vector<std::vector<token_id>>(2));
  }
}

TEST_CASE("only as many link tokens as the model was trained with") {
  const auto refused = link_tokens(trained_with({5}), 1, 2);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::unsupported);
  CHECK(refused.error().context.find("use link(5)") != std::string::npos);
  CHECK(link_tokens(trained_with({1, 5}), 3, 2).error().context.find("use link(1) or link(5)") !=
        std::string::npos);
}

TEST_CASE("models name their link tokens or have those of KVLink") {
  auto config = trained_with({1});
  CHECK(link_tokens(config, 1, 3).value() ==
        std::vector<std::vector<token_id>>{{128011}, {128012}, {128013}});
  CHECK(link_tokens(trained_with({5}), 5, 2).value()[1] ==
        std::vector<token_id>{128016, 128017, 128018, 128019, 128020});
  CHECK(link_tokens(config, 1, 40).has_value());
  CHECK(link_tokens(config, 1, 41).error().code == errc::invalid_argument);

  config.weft->special_tokens = {{"<|link_0|>", 77}};
  CHECK(link_tokens(config, 1, 2).value() == std::vector<std::vector<token_id>>{{77}, {77}});
  config.weft->link_tokens = {1, 5};
  CHECK(link_tokens(config, 5, 2).error().code == errc::invalid_argument);  // <|link_1|> is not named
}
