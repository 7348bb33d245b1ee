#include <weft/engine/model_config.hpp>

#include "json_file.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

namespace weft::engine {

namespace {

using nlohmann::json;

constexpr std::uintmax_t config_limit_bytes = 16U << 20U;

// Thrown inside this file only, turned into a `result` at its border: a config has some thirty fields, and
// each may be wrong.
struct config_error {
  errc code;
  std::string what;
};

[[noreturn]] void refuse(errc code, std::string what) {
  throw config_error{code, std::move(what)};
}

const json* present(const json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::uint32_t count_of(const json& value, const std::string& key) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  if (!value.is_number_integer() || value.get<std::int64_t>() < 1 || value.get<std::int64_t>() > most)
    refuse(errc::invalid_argument, "\"" + key + "\" must be a whole number above 0");
  return static_cast<std::uint32_t>(value.get<std::int64_t>());
}

std::uint32_t required_count(const json& object, const char* key) {
  const json* value = present(object, key);
  if (value == nullptr) refuse(errc::invalid_argument, std::string{"\""} + key + "\" is missing");
  return count_of(*value, key);
}

std::uint32_t count_or(const json& object, const char* key, std::uint32_t otherwise) {
  const json* value = present(object, key);
  return value == nullptr ? otherwise : count_of(*value, key);
}

double positive_of(const json& value, const std::string& key) {
  if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() <= 0)
    refuse(errc::invalid_argument, "\"" + key + "\" must be a number above 0");
  return value.get<double>();
}

double positive_or(const json& object, const char* key, double otherwise) {
  const json* value = present(object, key);
  return value == nullptr ? otherwise : positive_of(*value, key);
}

double required_positive(const json& object, const char* key) {
  const json* value = present(object, key);
  if (value == nullptr) refuse(errc::invalid_argument, std::string{"the RoPE scaling lacks \""} + key + "\"");
  return positive_of(*value, key);
}

bool flag(const json& object, const char* key) {
  const json* value = present(object, key);
  if (value == nullptr) return false;
  if (!value->is_boolean())
    refuse(errc::invalid_argument, std::string{"\""} + key + "\" must be true or false");
  return value->get<bool>();
}

std::string text_of(const json& object, const char* key) {
  const json* value = present(object, key);
  if (value == nullptr) return {};
  if (!value->is_string()) refuse(errc::invalid_argument, std::string{"\""} + key + "\" must be a text");
  return value->get<std::string>();
}

token_id token_of(const json& value, const std::string& key) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
      value.get<std::int64_t>() > std::numeric_limits<token_id>::max())
    refuse(errc::invalid_argument, "\"" + key + "\" must be a token id");
  return static_cast<token_id>(value.get<std::int64_t>());
}

std::vector<token_id> tokens_of(const json& object, const char* key) {
  const json* value = present(object, key);
  if (value == nullptr) return {};
  if (!value->is_array()) return {token_of(*value, key)};
  std::vector<token_id> ids;
  for (const auto& item : *value)
    ids.push_back(token_of(item, key));
  return ids;
}

std::string architecture_name(const json& config) {
  const json* names = present(config, "architectures");
  if (names != nullptr && names->is_array() && !names->empty() && names->front().is_string())
    return names->front().get<std::string>();
  return text_of(config, "model_type");
}

architecture architecture_of(const json& config) {
  constexpr std::array<std::pair<std::string_view, architecture>, 6> known{{
      {"LlamaForCausalLM", architecture::llama},
      {"llama", architecture::llama},
      {"Qwen2ForCausalLM", architecture::qwen2},
      {"qwen2", architecture::qwen2},
      {"Qwen3ForCausalLM", architecture::qwen3},
      {"qwen3", architecture::qwen3},
  }};
  const std::string name = architecture_name(config);
  if (name.empty()) refuse(errc::invalid_argument, "neither \"architectures\" nor \"model_type\" is given");
  for (const auto& [known_name, arch] : known)
    if (name == known_name) return arch;
  refuse(errc::unsupported, "architecture " + name +
                                " is not one that weft runs; LlamaForCausalLM, Qwen2ForCausalLM and "
                                "Qwen3ForCausalLM are");
}

block::rope_spec rope_of(const json& config) {
  // transformers 5 writes everything into rope_parameters, earlier versions rope_theta beside rope_scaling.
  const json* parameters = present(config, "rope_parameters");
  if (parameters == nullptr) parameters = present(config, "rope_scaling");
  const json nothing = json::object();
  if (parameters == nullptr) parameters = &nothing;
  if (!parameters->is_object()) refuse(errc::invalid_argument, "the RoPE parameters must be an object");

  block::rope_spec rope;
  rope.theta = positive_or(*parameters, "rope_theta", positive_or(config, "rope_theta", 10000.0));
  std::string type = text_of(*parameters, "rope_type");
  if (type.empty()) type = text_of(*parameters, "type");
  const double rotated =
      positive_or(*parameters, "partial_rotary_factor", positive_or(config, "partial_rotary_factor", 1.0));
  if (rotated != 1.0) refuse(errc::unsupported, "partial_rotary_factor other than 1 is not supported");

  if (type.empty() || type == "default") {
    if (parameters->contains("full_attention") || parameters->contains("sliding_attention"))
      refuse(errc::unsupported, "RoPE parameters that differ between layers are not supported");
    if (type.empty() && parameters->contains("factor"))
      refuse(errc::invalid_argument, "the RoPE scaling has a \"factor\" but no \"rope_type\"");
    return rope;
  }
  if (type == "linear") {
    rope.scaling = block::rope_spec::scaling_kind::linear;
    rope.factor = required_positive(*parameters, "factor");
    return rope;
  }
  if (type != "llama3")
    refuse(errc::unsupported,
           "RoPE scaling \"" + type + "\" is not supported; \"default\", \"linear\" and \"llama3\" are");
  rope.scaling = block::rope_spec::scaling_kind::llama3;
  rope.factor = required_positive(*parameters, "factor");
  rope.low_freq_factor = required_positive(*parameters, "low_freq_factor");
  rope.high_freq_factor = required_positive(*parameters, "high_freq_factor");
  if (present(*parameters, "original_max_position_embeddings") == nullptr)
    refuse(errc::invalid_argument, "the RoPE scaling lacks \"original_max_position_embeddings\"");
  rope.original_context_tokens = required_count(*parameters, "original_max_position_embeddings");
  if (rope.high_freq_factor <= rope.low_freq_factor)
    refuse(errc::invalid_argument, "\"high_freq_factor\" must be above \"low_freq_factor\"");
  return rope;
}

kernels::dtype weights_dtype_of(const json& config) {
  std::string name = text_of(config, "dtype");
  if (name.empty()) name = text_of(config, "torch_dtype");
  if (name.empty() || name == "float32") return kernels::dtype::f32;
  if (name == "bfloat16") return kernels::dtype::bf16;
  if (name == "float16") return kernels::dtype::f16;
  refuse(errc::unsupported,
         "weights of dtype " + name + " are not supported; bfloat16, float16 and float32 are");
}

std::uint32_t length_or(const json& object, const char* key, std::uint32_t otherwise) {
  const json* value = present(object, key);
  if (value == nullptr) return otherwise;
  return *value == 0 ? 0 : count_of(*value, std::string("weft.repeat_prompt.") + key);
}

std::optional<repeat_metadata> repeat_prompt_of(const json& weft) {
  const json* object = present(weft, "repeat_prompt");
  if (object == nullptr) return std::nullopt;
  if (!object->is_object()) refuse(errc::invalid_argument, "\"weft.repeat_prompt\" must be an object");
  repeat_metadata found;
  found.prefix = text_of(*object, "prefix");
  found.suffix = text_of(*object, "suffix");
  found.hint_tokens = length_or(*object, "hint_tokens", found.hint_tokens);
  const std::string hint_from = text_of(*object, "hint_from");
  if (!hint_from.empty() && hint_from != "chunk_head" && hint_from != "previous_tail")
    refuse(errc::invalid_argument,
           "\"weft.repeat_prompt.hint_from\" is " + hint_from + "; chunk_head and previous_tail are known");
  found.hint_from_chunk_head = hint_from == "chunk_head";
  const json* chunk = present(*object, "chunk");
  if (chunk != nullptr)
    found.chunk_tokens = *chunk == "document" ? 0 : count_of(*chunk, "weft.repeat_prompt.chunk");
  found.skip_tokens = length_or(*object, "skip_tokens", 0);
  return found;
}

// A number, or an array of them; 0 is none.
std::vector<std::uint32_t> link_tokens_of(const json& value) {
  std::vector<std::uint32_t> trained;
  for (const auto& number : value.is_array() ? value : json::array({value})) {
    // NOLINTNEXTLINE(misc-redundant-expression): it sees no difference between the numbers
    const bool known = number == 0 || number == 1 || number == 5;
    if (!known)
      refuse(errc::invalid_argument, "\"weft.link_tokens\" must be 0, 1 or 5, or a list of such numbers");
    if (number != 0) trained.push_back(number.get<std::uint32_t>());
  }
  return trained;
}

std::optional<weft_metadata> metadata_of(const json& config) {
  const json* object = present(config, "weft");
  if (object == nullptr) return std::nullopt;
  if (!object->is_object()) refuse(errc::invalid_argument, "\"weft\" must be an object");
  weft_metadata found;
  if (const json* links = present(*object, "link_tokens")) found.link_tokens = link_tokens_of(*links);
  found.segment_masked = flag(*object, "segment_masked");
  if (const json* specials = present(*object, "special_tokens")) {
    if (!specials->is_object()) refuse(errc::invalid_argument, "\"weft.special_tokens\" must be an object");
    for (const auto& [text, id] : specials->items())
      found.special_tokens[text] = token_of(id, "weft.special_tokens");
  }
  found.repeat = repeat_prompt_of(*object);
  return found;
}

// What the forward pass does not do must not pass silently: the answers would be wrong.
void refuse_unsupported_parts(const json& config, architecture arch) {
  const std::string activation = text_of(config, "hidden_act");
  if (!activation.empty() && activation != "silu")
    refuse(errc::unsupported, "activation " + activation + " is not supported; silu is");
  if (present(config, "quantization_config") != nullptr)
    refuse(errc::unsupported, "quantised weights are not supported; take the model in bf16, fp16 or fp32");
  if (arch != architecture::qwen2 && flag(config, "attention_bias"))
    refuse(errc::unsupported, "attention_bias is supported for Qwen2 only");
  if (flag(config, "mlp_bias")) refuse(errc::unsupported, "mlp_bias is not supported");
  if (flag(config, "use_sliding_window"))
    refuse(errc::unsupported, "sliding-window attention is not supported");
  const json* layers = present(config, "layer_types");
  if (layers != nullptr && layers->is_array())
    for (const auto& type : *layers)
      if (type != "full_attention")
        refuse(errc::unsupported, "layers of type " + type.dump() + " are not supported; full_attention is");
}

std::uint32_t head_dim_of(const json& config, const model_config& model) {
  if (present(config, "head_dim") != nullptr) return required_count(config, "head_dim");
  if (model.arch == architecture::qwen3) return 128;
  if (model.hidden_size % model.query_heads != 0)
    refuse(errc::invalid_argument, "\"hidden_size\" is no multiple of \"num_attention_heads\"");
  return model.hidden_size / model.query_heads;
}

void read_shape(const json& config, model_config& model) {
  model.layers = required_count(config, "num_hidden_layers");
  model.hidden_size = required_count(config, "hidden_size");
  model.intermediate_size = required_count(config, "intermediate_size");
  model.query_heads = required_count(config, "num_attention_heads");
  model.kv_heads = count_or(config, "num_key_value_heads", model.query_heads);
  model.vocab_size = required_count(config, "vocab_size");
  model.max_context_tokens =
      count_or(config, "max_position_embeddings", model.arch == architecture::llama ? 2048 : 32768);
  model.head_dim = head_dim_of(config, model);
  if (model.query_heads % model.kv_heads != 0)
    refuse(errc::invalid_argument, "\"num_attention_heads\" is no multiple of \"num_key_value_heads\"");
  if (model.head_dim % 2 != 0) refuse(errc::invalid_argument, "\"head_dim\" must be even");
}

void check_tokens(const model_config& model) {
  const auto check = [&](token_id id, const char* what) {
    if (static_cast<std::uint32_t>(id) >= model.vocab_size)
      refuse(errc::invalid_argument, std::string{what} + " " + std::to_string(id) +
                                         " is outside a vocabulary of " + std::to_string(model.vocab_size));
  };
  if (model.bos_token) check(*model.bos_token, "the begin token");
  for (const token_id id : model.eos_tokens)
    check(id, "the end token");
  if (!model.weft) return;
  for (const auto& [text, id] : model.weft->special_tokens)
    check(id, ("\"weft\" token " + text).c_str());
}

model_config read_config(const json& config) {
  model_config model;
  model.arch = architecture_of(config);
  refuse_unsupported_parts(config, model.arch);
  read_shape(config, model);
  model.rms_norm_eps = positive_or(config, "rms_norm_eps", 1e-6);
  model.rope = rope_of(config);
  model.tied_embeddings = flag(config, "tie_word_embeddings");
  model.attention_bias = model.arch == architecture::qwen2;
  model.qk_norm = model.arch == architecture::qwen3;
  model.weights_dtype = weights_dtype_of(config);
  if (const auto ids = tokens_of(config, "bos_token_id"); !ids.empty()) model.bos_token = ids.front();
  model.eos_tokens = tokens_of(config, "eos_token_id");
  model.weft = metadata_of(config);
  return model;
}

void apply_generation_config(const json& generation, model_config& model) {
  if (const auto ids = tokens_of(generation, "bos_token_id"); !ids.empty()) model.bos_token = ids.front();
  if (auto ids = tokens_of(generation, "eos_token_id"); !ids.empty()) model.eos_tokens = std::move(ids);
}

}  // namespace

result<model_config> load_model_config(const std::filesystem::path& model_folder) {
  const auto config_file = model_folder / "config.json";
  const auto generation_file = model_folder / "generation_config.json";
  const auto config = read_json_object(config_file, config_limit_bytes);
  if (!config) return tl::unexpected(config.error());
  std::filesystem::path reading = config_file;
  try {
    model_config model = read_config(*config);
    reading = generation_file;
    std::error_code code;
    if (std::filesystem::exists(generation_file, code)) {
      const auto generation = read_json_object(generation_file, config_limit_bytes);
      if (!generation) return tl::unexpected(generation.error());
      apply_generation_config(*generation, model);
    }
    reading = config_file;
    check_tokens(model);
    return model;
  } catch (const config_error& wrong) {
    return fail(wrong.code, reading.string() + ": " + wrong.what);
  }
}

}  // namespace weft::engine
