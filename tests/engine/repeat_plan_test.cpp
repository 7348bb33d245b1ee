#include <weft/engine/repeat_plan.hpp>

#include <doctest/doctest.h>

#include <filesystem>

using namespace weft::engine;

namespace {

repeat_plan plan_of(const std::filesystem::path& folder) {
  const auto config = load_model_config(folder);
  REQUIRE(config);
  const auto tokens = tokenizer::load(folder);
  REQUIRE(tokens);
  const auto format = prompt_format::for_model(*config, *tokens);
  REQUIRE(format);
  auto plan = repeat_plan_for(*config, *tokens, *format);
  REQUIRE(plan);
  return std::move(*plan);
}

}  // namespace

TEST_CASE("the recall model repeats documents in its own words") {
  const std::filesystem::path folder = WEFT_SOURCE_DIR "/models/recall";
  const auto plan = plan_of(folder);
  const auto tokens = tokenizer::load(folder).value();
  CHECK(tokens.decode(plan.prompt.prefix) == "<|query|> Repeat the passage that starts with:");
  CHECK(plan.prompt.prefix.front() == tokens.id_of("<|query|>"));
  CHECK(plan.prompt.suffix == std::vector<token_id>{tokens.id_of("<|answer|>").value()});
  CHECK(plan.prompt.hint_tokens == 12);
  CHECK(plan.prompt.hint_from == hint_source::chunk_head);
  CHECK(plan.chunks(0, 40) == std::vector<repeat_chunk>{{0, 40, 1}});
  CHECK(plan.chunks(0, 1) == std::vector<repeat_chunk>{{0, 1, 0}});
  const std::vector<std::int32_t> segments{0, 1, 1, 1, 2, 2};
  CHECK(plan.chunks(segments, 1) == std::vector<repeat_chunk>{{1, 4, 1}, {4, 6, 1}});
}

TEST_CASE("chunks of a long text cover it in order") {
  CHECK(chunks_of(3, 8, 2) == std::vector<repeat_chunk>{{3, 5, 0}, {5, 7, 0}, {7, 8, 0}});
  CHECK(chunks_of(3, 3, 2).empty());
  repeat_plan plan;
  plan.chunk_tokens = 4;
  CHECK(plan.chunks(std::vector<std::int32_t>{0, 1, 1, 2, 2, 2}, 1) ==
        std::vector<repeat_chunk>{{1, 5, 0}, {5, 6, 0}});
}
