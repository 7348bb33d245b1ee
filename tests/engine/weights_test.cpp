#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "temporary_folder.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

namespace {

const std::string fixtures = std::string(WEFT_SOURCE_DIR) + "/tests/fixtures/";

std::string content_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A copy of a fixture whose config.json has `from` replaced by `to`.
weft::error refusal(const std::string& fixture, const std::string& from, const std::string& to) {
  weft::test::temporary_folder folder;
  std::filesystem::copy(fixtures + fixture, folder.path(), std::filesystem::copy_options::recursive);
  std::string config = content_of(folder.path() / "config.json");
  const auto at = config.find(from);
  REQUIRE(at != std::string::npos);
  folder.write("config.json", config.replace(at, from.size(), to));
  const auto loaded = runner::load(folder.path(), exact_options());
  return loaded ? weft::error{errc::ok, "was loaded"} : loaded.error();
}

void check_names(const weft::error& refused, const std::string& tensor) {
  CAPTURE(refused.context);
  CHECK(refused.code == errc::invalid_argument);
  CHECK(refused.context.find(tensor) != std::string::npos);
  CHECK(refused.context.find('\n') == std::string::npos);
}

std::string field(const std::string& fixture, const std::string& key) {
  const std::string config = content_of(fixtures + fixture + "/config.json");
  const auto at = config.find('"' + key + '"');
  REQUIRE(at != std::string::npos);
  return config.substr(at, config.find_first_of(",\n}", at) - at);
}

}  // namespace

TEST_CASE("weights that do not fit the config are refused, the tensor is named") {
  check_names(refusal("llama", field("llama", "num_hidden_layers"), "\"num_hidden_layers\": 9"),
              "model.layers.");
  check_names(refusal("llama", field("llama", "num_hidden_layers"), "\"num_hidden_layers\": 1"),
              "model.layers.1.");
  check_names(refusal("llama", field("llama", "intermediate_size"), "\"intermediate_size\": 8"),
              "model.layers.0.mlp.gate_proj.weight");
  check_names(refusal("llama", field("llama", "vocab_size"), "\"vocab_size\": 100000"),
              "model.embed_tokens.weight");
  check_names(refusal("qwen3", field("qwen3", "head_dim"), "\"head_dim\": 6"), "self_attn.q_proj.weight");
}

TEST_CASE("weights of another architecture are refused") {
  check_names(refusal("qwen2", "Qwen2ForCausalLM", "LlamaForCausalLM"), "proj.bias");
  check_names(refusal("llama", "LlamaForCausalLM", "Qwen2ForCausalLM"), "self_attn.q_proj.bias");
  check_names(refusal("qwen3", "Qwen3ForCausalLM", "LlamaForCausalLM"), "_norm.weight");
}

TEST_CASE("untied embeddings need their own output projection") {
  check_names(
      refusal("llama_tied", field("llama_tied", "tie_word_embeddings"), "\"tie_word_embeddings\": false"),
      "lm_head.weight");
}

TEST_CASE("the spec says what decides a block's bytes") {
  const auto narrow = load_recall({.threads = 1});
  const auto wide = load_recall({.threads = 1, .cache_dtype = weft::kernels::dtype::f32});
  CHECK(narrow.spec().architecture == "llama");
  CHECK(narrow.spec().cache_dtype == weft::kernels::dtype::bf16);
  CHECK(narrow.spec().layers == 4);
  CHECK(narrow.spec().kv_heads == 2);
  CHECK(narrow.spec().weights_digest == wide.spec().weights_digest);
  CHECK(weft::block::fingerprint(narrow.spec()) != weft::block::fingerprint(wide.spec()));
  CHECK(narrow.spec().weights_digest != load_fixture("llama").spec().weights_digest);
}
