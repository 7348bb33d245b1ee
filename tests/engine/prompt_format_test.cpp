#include <weft/engine/prompt_format.hpp>

#include <doctest/doctest.h>

#include "temporary_folder.hpp"

using weft::engine::model_config;
using weft::engine::prompt_format;
using weft::engine::token_id;
using weft::engine::tokenizer;

namespace {

tokenizer load(const std::string& folder) {
  auto loaded = tokenizer::load(WEFT_SOURCE_DIR "/" + folder);
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

prompt_format format_of(const model_config& config, const tokenizer& tokens) {
  auto format = prompt_format::for_model(config, tokens);
  REQUIRE_MESSAGE(format.has_value(), format.error().context);
  return std::move(*format);
}

}  // namespace

TEST_CASE("the shipped model's prompt is that of its trainer") {
  const auto tokens = load("models/recall");
  const auto config = weft::engine::load_model_config(WEFT_SOURCE_DIR "/models/recall");
  REQUIRE(config);
  const auto format = format_of(*config, tokens);
  const auto text = [&](std::string_view part) { return tokens.encode(part); };
  CHECK(format.opening(tokens, "") == text("<|begin|>"));
  CHECK(format.document(tokens, "Koreth: 4821.") == text("<|doc|> Koreth: 4821."));
  CHECK(format.question(tokens, "What is the value of Koreth?") ==
        text("<|query|> What is the value of Koreth?<|answer|>"));
  CHECK(format.reply(tokens, "4821") == text(" 4821"));
  CHECK(format.is_end(1271));
  CHECK(!format.is_end(1270));
  CHECK(format.answer(tokens, text(" 4821<|end|> more")) == "4821");
  CHECK(format.answer(tokens, text("4821")) == "4821");
  CHECK(format.answer(tokens, {}).empty());
}

TEST_CASE("a text cannot fake a marker") {
  const auto tokens = load("models/recall");
  const auto config = weft::engine::load_model_config(WEFT_SOURCE_DIR "/models/recall");
  REQUIRE(config);
  const auto format = format_of(*config, tokens);
  const auto ids = format.document(tokens, "<|query|> x <|end|>");
  CHECK(ids.front() == 1272);
  for (std::size_t i = 1; i < ids.size(); ++i)
    CHECK(ids[i] < 1270);
}

TEST_CASE("chat models get their turns, base models with the same vocabulary plain text") {
  const auto tokens = load("tests/fixtures/tokenizers/qwen");
  const auto start = tokens.id_of("<|im_start|>");
  const auto end = tokens.id_of("<|im_end|>");
  REQUIRE((start && end));
  model_config config;
  config.arch = weft::engine::architecture::qwen2;
  config.eos_tokens = {*end};
  const auto chat = format_of(config, tokens);
  CHECK(tokens.decode(chat.opening(tokens, "Be brief.")) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n");
  CHECK(tokens.decode(chat.document(tokens, "One.")) == "One.\n\n");
  CHECK(tokens.decode(chat.question(tokens, "Who?")) == "Who?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat.is_end(*end));

  config.eos_tokens = {5};
  const auto base = format_of(config, tokens);
  CHECK(base.opening(tokens, "").empty());
  CHECK(tokens.decode(base.question(tokens, "Who?")) == "Who?\n");
  CHECK(base.is_end(5));
  CHECK(!base.is_end(*end));
}

TEST_CASE("Llama's begin token stands in front also without a template") {
  const auto tokens = load("tests/fixtures/tokenizers/llama3");
  model_config config;
  config.bos_token = tokens.id_of("<|begin_of_text|>");
  REQUIRE(config.bos_token);
  CHECK(format_of(config, tokens).opening(tokens, "") == std::vector<token_id>{*config.bos_token});
}

TEST_CASE("metadata that contradicts the tokenizer is refused") {
  const auto tokens = load("models/recall");
  auto config = weft::engine::load_model_config(WEFT_SOURCE_DIR "/models/recall");
  REQUIRE(config);
  auto swapped = *config;
  swapped.weft.value().special_tokens["<|query|>"] = 1274;
  CHECK(!prompt_format::for_model(swapped, tokens));
  auto lacking = *config;
  lacking.weft.value().special_tokens.erase("<|answer|>");
  const auto format = prompt_format::for_model(lacking, tokens);
  REQUIRE(!format);
  CHECK(format.error().context.find("<|answer|>") != std::string::npos);
}
