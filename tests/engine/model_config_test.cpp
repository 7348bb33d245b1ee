#include <weft/engine/model_config.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "temporary_folder.hpp"

#include <functional>

using nlohmann::json;
using weft::engine::architecture;
using weft::engine::load_model_config;
using scaling_kind = weft::block::rope_spec::scaling_kind;

namespace {

const std::string fixtures = WEFT_SOURCE_DIR "/tests/fixtures/";

json small_llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 160},
          {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"torch_dtype", "bfloat16"}};
}

weft::result<weft::engine::model_config> load(const json& config, const json& generation = nullptr) {
  const weft::test::temporary_folder folder;
  folder.write("config.json", config.dump());
  if (!generation.is_null()) folder.write("generation_config.json", generation.dump());
  return load_model_config(folder.path());
}

weft::result<weft::engine::model_config> load_changed(const std::function<void(json&)>& change) {
  json config = small_llama();
  change(config);
  return load(config);
}

void refused(const std::function<void(json&)>& change, weft::errc code, const std::string& part) {
  const auto loaded = load_changed(change);
  CAPTURE(part);
  REQUIRE(!loaded);
  CAPTURE(loaded.error().context);
  CHECK(loaded.error().code == code);
  CHECK(loaded.error().context.find(part) != std::string::npos);
  CHECK(loaded.error().context.find("config.json") != std::string::npos);
}

}  // namespace

TEST_CASE("the shipped model's config") {
  const auto config = load_model_config(WEFT_SOURCE_DIR "/models/recall");
  REQUIRE(config);
  CHECK(config->arch == architecture::llama);
  CHECK(config->layers == 4);
  CHECK(config->head_dim == 32);
  CHECK(config->rope.theta == 100000.0);
  CHECK(config->rope.scaling == scaling_kind::none);
  CHECK(config->tied_embeddings);
  CHECK(config->weights_dtype == weft::kernels::dtype::bf16);
  CHECK(config->bos_token == 1270);
  CHECK(config->eos_tokens == std::vector<weft::engine::token_id>{1271});
  REQUIRE(config->weft);
  CHECK(config->weft->link_tokens.empty());
  CHECK(config->weft->segment_masked);
  CHECK(config->weft->special_tokens.at("<|answer|>") == 1274);
}

TEST_CASE("llama3 scaling, as transformers 5 writes it and as version 4 did") {
  for (const std::string name : {"llama", "llama_tied"}) {
    CAPTURE(name);
    const auto config = load_model_config(fixtures + name);
    REQUIRE_MESSAGE(config.has_value(), config.error().context);
    CHECK(config->rope.scaling == scaling_kind::llama3);
    CHECK(config->rope.theta == 10000.0);
    CHECK(config->rope.factor == 8.0);
    CHECK(config->rope.low_freq_factor == 1.0);
    CHECK(config->rope.high_freq_factor == 4.0);
    CHECK(config->rope.original_context_tokens == 128);
    CHECK(config->tied_embeddings == (name == "llama_tied"));
  }
}

TEST_CASE("Qwen2 has biases, Qwen3 norms its heads") {
  const auto qwen2 = load_model_config(fixtures + "qwen2");
  REQUIRE(qwen2);
  CHECK(qwen2->attention_bias);
  CHECK(!qwen2->qk_norm);
  CHECK(qwen2->head_dim == 16);
  CHECK(qwen2->weights_dtype == weft::kernels::dtype::f16);
  const auto qwen3 = load_model_config(fixtures + "qwen3");
  REQUIRE(qwen3);
  CHECK(!qwen3->attention_bias);
  CHECK(qwen3->qk_norm);
  CHECK(qwen3->head_dim == 32);
  CHECK(qwen3->rope.theta == 1000000.0);
}

TEST_CASE("what may be left out, and linear scaling") {
  const auto config = load_changed([](json& c) {
    c["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  });
  REQUIRE(config);
  CHECK(config->head_dim == 16);
  CHECK(!config->tied_embeddings);
  CHECK(!config->weft);
  CHECK(config->rope.scaling == scaling_kind::linear);
  CHECK(config->rope.factor == 2.0);
  CHECK(config->rope.theta == 500000.0);
}

TEST_CASE("generation_config.json decides about the end tokens") {
  json config = small_llama();
  config["eos_token_id"] = 7;
  const auto both = load(config, {{"eos_token_id", {8, 9}}, {"bos_token_id", 3}});
  REQUIRE(both);
  CHECK(both->eos_tokens == std::vector<weft::engine::token_id>{8, 9});
  CHECK(both->bos_token == 3);
  const auto alone = load(config);
  REQUIRE(alone);
  CHECK(alone->eos_tokens == std::vector<weft::engine::token_id>{7});
  CHECK(!load(config, {{"eos_token_id", 160}}));
}

TEST_CASE("what this engine does not compute is refused by name") {
  using weft::errc;
  refused([](json& c) { c["architectures"] = {"MixtralForCausalLM"}; }, errc::unsupported,
          "MixtralForCausalLM");
  for (const std::string type : {"yarn", "dynamic", "longrope", "mrope"}) {
    refused(
        [&](json& c) {
          c["rope_scaling"] = {{"rope_type", type}, {"factor", 2.0}};
        },
        errc::unsupported, type);
    refused(
        [&](json& c) {
          c["rope_parameters"] = {{"rope_type", type}, {"rope_theta", 1e4}, {"factor", 2.0}};
        },
        errc::unsupported, type);
  }
  refused([](json& c) { c["hidden_act"] = "gelu"; }, errc::unsupported, "gelu");
  refused([](json& c) { c["attention_bias"] = true; }, errc::unsupported, "attention_bias");
  refused([](json& c) { c["mlp_bias"] = true; }, errc::unsupported, "mlp_bias");
  refused([](json& c) { c["use_sliding_window"] = true; }, errc::unsupported, "sliding");
  refused(
      [](json& c) {
        c["layer_types"] = {"full_attention", "sliding_attention"};
      },
      errc::unsupported, "sliding");
  refused([](json& c) { c["quantization_config"] = {{"bits", 4}}; }, errc::unsupported, "quantised");
  refused([](json& c) { c["torch_dtype"] = "float8"; }, errc::unsupported, "float8");
  refused([](json& c) { c["partial_rotary_factor"] = 0.5; }, errc::unsupported, "partial_rotary_factor");
}

TEST_CASE("values that make no model are named") {
  using weft::errc;
  refused([](json& c) { c.erase("architectures"); }, errc::invalid_argument, "model_type");
  refused([](json& c) { c.erase("hidden_size"); }, errc::invalid_argument, "hidden_size");
  refused([](json& c) { c["num_hidden_layers"] = -1; }, errc::invalid_argument, "num_hidden_layers");
  refused([](json& c) { c["num_hidden_layers"] = "2"; }, errc::invalid_argument, "num_hidden_layers");
  refused([](json& c) { c["vocab_size"] = 1e300; }, errc::invalid_argument, "vocab_size");
  refused([](json& c) { c["num_key_value_heads"] = 3; }, errc::invalid_argument, "num_key_value_heads");
  refused([](json& c) { c["head_dim"] = 15; }, errc::invalid_argument, "head_dim");
  refused([](json& c) { c["hidden_size"] = 65; }, errc::invalid_argument, "hidden_size");
  refused([](json& c) { c["rms_norm_eps"] = -1.0; }, errc::invalid_argument, "rms_norm_eps");
  refused([](json& c) { c["rope_scaling"] = {{"factor", 2.0}}; }, errc::invalid_argument, "rope_type");
  refused(
      [](json& c) {
        c["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 2.0}};
      },
      errc::invalid_argument, "low_freq_factor");
  refused([](json& c) { c["eos_token_id"] = 160; }, errc::invalid_argument, "160");
  refused([](json& c) { c["weft"] = {{"link_tokens", 3}}; }, errc::invalid_argument, "link_tokens");
  refused([](json& c) { c["weft"] = {{"link_tokens", {1, 2}}}; }, errc::invalid_argument, "link_tokens");
  refused(
      [](json& c) {
        c["weft"] = {{"special_tokens", {{"<|doc|>", 400}}}};
      },
      errc::invalid_argument, "<|doc|>");
}

TEST_CASE("a folder without config.json, and one whose config.json is no JSON") {
  const weft::test::temporary_folder folder;
  const auto missing = load_model_config(folder.path());
  REQUIRE(!missing);
  CHECK(missing.error().code == weft::errc::not_found);
  folder.write("config.json", "{\"hidden_size\": ");
  const auto cut = load_model_config(folder.path());
  REQUIRE(!cut);
  CHECK(cut.error().code == weft::errc::invalid_argument);
}
