#include <weft/launcher/study/export_tensors.hpp>
#include <weft/launcher/study/loaded_model.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <initializer_list>

using namespace weft::launcher::study;
using nlohmann::json;
using weft::engine::token_id;
using weft::policies::stitch_policy;

namespace {

weft::engine::runner model_named(const std::string& name) {
  auto loaded = weft::engine::runner::load(WEFT_SOURCE_DIR "/tests/fixtures/" + name,
                                           options_for_dtype("f32", 2).value());
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

std::vector<token_id> ids(std::size_t count, token_id first) {
  std::vector<token_id> tokens;
  for (std::size_t i = 0; i < count; ++i)
    tokens.push_back((first + static_cast<token_id>(37 * i)) % 160);
  return tokens;
}

stitched_request sample_request(stitch_policy policy) {
  return {ids(3, 1), {ids(9, 20), ids(1, 5), ids(17, 60)}, ids(6, 90), policy};
}

// The system's 3 rows and the question's 6, and some of the documents' 27.
std::vector<std::uint8_t> computed_rows(std::initializer_list<std::size_t> document_rows) {
  std::vector<std::uint8_t> rows(36, 0);
  for (std::size_t i = 0; i < 36; ++i)
    rows[i] = i < 3 || i >= 30;
  for (const auto row : document_rows)
    rows[row] = 1;
  return rows;
}

std::vector<std::uint8_t> layer_of(const exported_stitching& found, std::size_t layer) {
  const auto begin = found.computed.begin() + static_cast<std::ptrdiff_t>(layer * found.prompt_tokens);
  return {begin, begin + static_cast<std::ptrdiff_t>(found.prompt_tokens)};
}

// The whole prompt as one sequence, documents in segments of their own or not.
sequence_request whole_prompt(const stitched_request& request, bool masked) {
  sequence_request whole;
  const auto add = [&](const std::vector<token_id>& tokens, std::int32_t segment) {
    whole.tokens.insert(whole.tokens.end(), tokens.begin(), tokens.end());
    whole.segments.resize(whole.tokens.size(), masked ? segment : 0);
  };
  add(request.system, 0);
  std::int32_t segment = 0;
  for (const auto& document : request.documents)
    add(document, ++segment);
  add(request.question, 0);
  return whole;
}

float distance_to_tail(const std::vector<float>& all, const std::vector<float>& tail) {
  REQUIRE(all.size() >= tail.size());
  const auto offset = all.size() - tail.size();
  float largest = 0;
  for (std::size_t i = 0; i < tail.size(); ++i) {
    REQUIRE(std::isfinite(tail[i]));
    largest = std::max(largest, std::abs(all[offset + i] - tail[i]));
  }
  return largest;
}

void refused(const weft::result<stitched_request>& request, weft::errc code, const std::string& part) {
  CAPTURE(part);
  REQUIRE(!request);
  CHECK(request.error().code == code);
  CHECK(request.error().context.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("stitched equals the prefill with one segment for each document") {
  for (const std::string name : {"llama", "qwen2", "qwen3"}) {
    CAPTURE(name);
    auto model = model_named(name);
    for (const auto policy : {stitch_policy::none, stitch_policy::full}) {
      const auto request = sample_request(policy);
      const auto stitched = stitched_of(model, request);
      REQUIRE_MESSAGE(stitched.has_value(), stitched.error().context);
      const auto masked = logits_of(model, whole_prompt(request, true)).value();
      const auto causal = logits_of(model, whole_prompt(request, false)).value();
      const bool none = policy == stitch_policy::none;
      CHECK(distance_to_tail(none ? masked : causal, stitched->logits) <= 1e-3F);
      CHECK(distance_to_tail(none ? causal : masked, stitched->logits) > 0.1F);
    }
  }
}

TEST_CASE("computed rows are those that were not reused") {
  auto model = model_named("llama");
  const auto none = stitched_of(model, sample_request(stitch_policy::none)).value();
  REQUIRE(none.prompt_tokens == 36);
  REQUIRE(none.computed.size() == 3 * 36);
  for (std::size_t layer = 0; layer < 3; ++layer)
    CHECK(layer_of(none, layer) == computed_rows({}));
  const auto epic = stitched_of(model, sample_request(stitch_policy::epic(2))).value();
  for (std::size_t layer = 0; layer < 3; ++layer)
    CHECK(layer_of(epic, layer) == computed_rows({3, 4, 12, 13, 14}));
  const auto blend = stitched_of(model, sample_request(stitch_policy::blend(150'000, 1))).value();
  CHECK(layer_of(blend, 0) == std::vector<std::uint8_t>(36, 1));
  CHECK(layer_of(blend, 1) == std::vector<std::uint8_t>(36, 1));
  const auto last = layer_of(blend, 2);
  CHECK(std::count(last.begin(), last.end(), 1) == 3 + 4 + 6);
  const auto full = stitched_of(model, sample_request(stitch_policy::full)).value();
  CHECK(full.computed == std::vector<std::uint8_t>(3 * 36, 1));
}

TEST_CASE("K and V do not depend on where a document stands, K being kept before RoPE") {
  auto model = model_named("qwen3");
  const auto& config = model.config();
  const auto document = ids(11, 40);
  const auto alone = kv_of(model, {document, std::vector<std::int32_t>(11, 1)}).value();
  sequence_request among{ids(5, 3), std::vector<std::int32_t>(5, 1)};
  among.tokens.insert(among.tokens.end(), document.begin(), document.end());
  among.segments.resize(16, 2);
  const auto behind = kv_of(model, among).value();
  REQUIRE(alone.k.size() == std::size_t{config.layers} * config.kv_heads * 11 * config.head_dim);
  REQUIRE(behind.v.size() == std::size_t{config.layers} * config.kv_heads * 16 * config.head_dim);
  float largest = 0;
  float size = 0;
  const std::size_t row = config.head_dim;
  for (std::size_t head = 0; head < std::size_t{config.layers} * config.kv_heads; ++head)
    for (std::size_t i = 0; i < 11 * row; ++i) {
      largest =
          std::max(largest, std::abs(alone.k[head * 11 * row + i] - behind.k[(head * 16 + 5) * row + i]));
      largest =
          std::max(largest, std::abs(alone.v[head * 11 * row + i] - behind.v[(head * 16 + 5) * row + i]));
      size = std::max(size, std::abs(alone.k[head * 11 * row + i]));
    }
  CHECK(largest <= 1e-4F);
  CHECK(size > 0.5F);
}

TEST_CASE("links that are given are put behind their documents") {
  auto model = model_named("llama");
  auto request = sample_request(stitch_policy::link(2));
  request.links = {ids(2, 100), ids(2, 110), ids(2, 120)};
  const auto stitched = stitched_of(model, request);
  REQUIRE_MESSAGE(stitched.has_value(), stitched.error().context);
  CHECK(stitched->prompt_tokens == 42);

  sequence_request whole{request.system, std::vector<std::int32_t>(3, 0)};
  const auto add = [&whole](const std::vector<token_id>& tokens, std::int32_t segment) {
    whole.tokens.insert(whole.tokens.end(), tokens.begin(), tokens.end());
    whole.segments.resize(whole.tokens.size(), segment);
  };
  for (std::size_t i = 0; i < 3; ++i) {
    add(request.documents[i], static_cast<std::int32_t>(i + 1));
    add(request.links[i], 0);
  }
  add(request.question, 0);
  CHECK(distance_to_tail(logits_of(model, whole).value(), stitched->logits) <= 1e-3F);
}

TEST_CASE("a policy's parameters stand in its name or beside it") {
  const auto model = model_named("llama");
  const auto policy_of = [&](const json& policy, const json& links = nullptr) {
    return stitched_request_from(
               {{"documents", {{2, 3}, {4}}}, {"question", {5}}, {"policy", policy}, {"links", links}},
               model.config())
        .value()
        .policy;
  };
  CHECK(policy_of({{"name", "epic"}, {"k", 4}}) == stitch_policy::epic(4));
  CHECK(policy_of({{"name", "epic"}}) == stitch_policy::epic(16));
  CHECK(policy_of("epic(7)") == stitch_policy::epic(7));
  CHECK(policy_of({{"name", "blend"}, {"r", 0.29}, {"layer", 2}}) == stitch_policy::blend(290'000, 2));
  CHECK(policy_of({{"name", "random"}, {"r", 0.5}, {"seed", 9}}) == stitch_policy::random(500'000, 9));
  CHECK(policy_of({{"name", "link"}}, {{7, 8}, {9, 10}}) == stitch_policy::link(2));
}

TEST_CASE("requests that do not fit the model are refused by the key that is wrong") {
  const auto model = model_named("llama");
  const auto& config = model.config();
  const json good = {
      {"system", {1}}, {"documents", {{2, 3}, {4}}}, {"question", {5}}, {"policy", {{"name", "none"}}}};
  const auto changed = [&](const char* key, const json& value) {
    json input = good;
    input[key] = value;
    return stitched_request_from(input, config);
  };
  using weft::errc;
  REQUIRE(stitched_request_from(good, config));
  CHECK(stitched_request_from(good, config)->documents.size() == 2);
  refused(changed("question", {160}), errc::invalid_argument, "160");
  refused(changed("question", {-1}), errc::invalid_argument, "question");
  refused(changed("question", "x"), errc::invalid_argument, "question");
  refused(changed("documents", {1, 2}), errc::invalid_argument, "documents");
  refused(changed("links", {{7}}), errc::invalid_argument, "links");
  refused(changed("links", {{7}, {160}}), errc::invalid_argument, "160");
  refused(changed("policy", {{"name", "nonsense"}}), errc::unsupported, "none");
  refused(changed("policy", {{"name", "link"}}), errc::unsupported, "without link tokens");
  refused(changed("policy", {{"name", "epic"}, {"k", -1}}), errc::invalid_argument, "\"k\"");
  refused(changed("policy", {{"name", "blend"}, {"r", 1.5}}), errc::invalid_argument, "\"r\"");
  refused(changed("policy", {{"name", "blend"}, {"layer", "1"}}), errc::invalid_argument, "\"layer\"");
  refused(changed("policy", "epic(x)"), errc::invalid_argument, "epic(x)");
  refused(stitched_request_from(json::object(), config), errc::invalid_argument, "documents");

  CHECK(sequence_request_from({{"tokens", {1, 2}}}, config)->segments == std::vector<std::int32_t>{0, 0});
  CHECK(!sequence_request_from({{"tokens", {1, 2}}, {"segments", {1}}}, config));
  CHECK(!sequence_request_from({{"tokens", json::array()}}, config));
  CHECK(!sequence_request_from({{"tokens", std::vector<int>(5000, 1)}}, config));
  CHECK(!sequence_request_from({{"tokens", {1.5}}}, config));
}
