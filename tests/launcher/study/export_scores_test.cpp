#include <weft/engine/safetensors.hpp>
#include <weft/launcher/study/export_scores.hpp>
#include <weft/launcher/study/loaded_model.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "temporary_folder.hpp"

#include <cmath>
#include <numeric>

using namespace weft::launcher::study;
using nlohmann::json;
using weft::errc;

namespace {

weft::engine::runner model_in(const std::filesystem::path& folder) {
  auto loaded = weft::engine::runner::load(folder, options_for_dtype("f32", 2).value());
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

const std::filesystem::path recall = WEFT_SOURCE_DIR "/models/recall";

json numbers(int count, int first) {
  std::vector<int> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace

TEST_CASE("the model's own repeat prompt is the one spelled out") {
  auto model = model_in(recall);
  json input = {{"tokens", numbers(30, 5)}, {"policy", "kvzip"}, {"system", 1}};
  input["tokens"][1] = 1272;
  const auto own = scores_of(model, recall, scores_request_from(input, model.config()).value());
  REQUIRE_MESSAGE(own.has_value(), own.error().context);
  const auto tokens = weft::engine::tokenizer::load(recall).value();
  input["repeat"] = {{"prefix", tokens.encode("<|query|> Repeat the passage that starts with:")},
                     {"suffix", tokens.encode("<|answer|>")},
                     {"per_chunk_hint", 12},
                     {"hint_from", "chunk_head"}};
  input["chunks"] = {{1, 30, 1}};
  const auto spelled = scores_of(model, recall, scores_request_from(input, model.config()).value());
  REQUIRE(spelled);
  CHECK(own->scores.values == spelled->scores.values);
  input["repeat"]["per_chunk_hint"] = 3;
  const auto other = scores_of(model, recall, scores_request_from(input, model.config()).value());
  REQUIRE(other);
  CHECK(own->scores.values != other->scores.values);
  CHECK(!own->kept);
}

TEST_CASE("kept rows of a request are those of its exported scores") {
  auto model = model_in(recall);
  const json input = {{"tokens", numbers(40, 9)},
                      {"segments", std::vector<int>(40, 1)},
                      {"policy", {{"name", "snapkv"}}},
                      {"options", {{"window", 8}, {"kernel", 5}}},
                      {"system", 2},
                      {"budget", {{"kind", "adakv"}, {"ratio", 0.29}}}};
  const auto request = scores_request_from(input, model.config());
  REQUIRE_MESSAGE(request.has_value(), request.error().context);
  CHECK(request->options.window == 8);
  CHECK(request->options.pool == 5);
  CHECK(request->budget->protected_rows == 2);
  const auto found = scores_of(model, recall, *request);
  REQUIRE(found);
  REQUIRE(found->kept);
  // 38 rows behind the system's: 11 of each head's, as layers share them out.
  CHECK(found->kept->count() == 4 * 2 * (11 + 2));

  const weft::test::temporary_folder folder;
  const auto file = folder.path() / "scores.safetensors";
  const weft::engine::tensor_to_write tensors[] = {
      {"scores", "F32", {4, 2, 40}, std::as_bytes(std::span(found->scores.values))},
      {"kept", "U8", {4, 2, 40}, std::as_bytes(std::span(found->kept->kept))}};
  REQUIRE(weft::engine::write_safetensors(file, tensors));
  const auto read = read_scores(file);
  REQUIRE_MESSAGE(read.has_value(), read.error().context);
  CHECK(read->values == found->scores.values);
  CHECK(weft::policies::keep_rows(*read, *request->budget)->kept == found->kept->kept);

  const weft::engine::tensor_to_write wrong[] = {
      {"scores", "F32", {8, 40}, std::as_bytes(std::span(found->scores.values))}};
  REQUIRE(weft::engine::write_safetensors(file, wrong));
  CHECK(!read_scores(file));
}

TEST_CASE("requests for scores are refused by the key that is wrong") {
  auto model = model_in(recall);
  const json good = {{"tokens", {1, 2, 3}}, {"policy", "kvzip"}};
  const auto refused = [&](const char* key, const json& value, const std::string& part,
                           errc code = errc::invalid_argument) {
    CAPTURE(key);
    CAPTURE(value.dump());
    json input = good;
    input[key] = value;
    const auto request = scores_request_from(input, model.config());
    REQUIRE(!request);
    CHECK(request.error().code == code);
    CHECK(request.error().context.find(part) != std::string::npos);
  };
  REQUIRE(scores_request_from(good, model.config()));
  refused("policy", "kvzipp", "kvzip_plus", errc::unsupported);
  refused("policy", 3, "policy");
  refused("system", -1, "system");
  refused("options", 3, "options");
  refused("options", {{"window", 0}}, "window");
  refused("repeat", {{"prefix", {99999}}}, "prefix");
  refused("repeat", {{"hint_from", "chunk"}}, "hint_from");
  refused("chunks", {{0, 9}}, "chunks");
  refused("chunks", {1, 2}, "chunks");
  refused("chunk_tokens", 0, "chunk_tokens");
  refused("budget", {{"kind", "pair"}, {"ratio", 0.3}}, "pyramid", errc::unsupported);
  refused("budget", {{"kind", "global"}, {"ratio", 1.3}}, "1.3");
  refused("budget", {{"kind", "global"}}, "ratio");
}
