#include <weft/engine/model_outline.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/safetensors.hpp>
#include <weft/kernels/rope.hpp>

#include "model_specs.hpp"

#include <string>
#include <utility>

namespace weft::engine {

namespace {

std::string_view name_of(architecture arch) {
  switch (arch) {
    case architecture::llama:
      return "llama";
    case architecture::qwen2:
      return "qwen2";
    case architecture::qwen3:
      return "qwen3";
  }
  return "unknown";
}

kernels::rope_parameters rope_parameters_of(const block::rope_spec& rope) {
  using kind = block::rope_spec::scaling_kind;
  return {.theta = rope.theta,
          .scaling = rope.scaling == kind::llama3   ? kernels::rope_scaling::llama3
                     : rope.scaling == kind::linear ? kernels::rope_scaling::linear
                                                    : kernels::rope_scaling::none,
          .factor = rope.factor,
          .low_freq_factor = rope.low_freq_factor,
          .high_freq_factor = rope.high_freq_factor,
          .original_context_tokens = rope.original_context_tokens};
}

// The type that the loaded projections of the last layer have: where they differ, they are widened.
result<kernels::dtype> weights_dtype_of(const tensor_files& files, const model_config& config,
                                        const std::filesystem::path& folder) {
  std::optional<kernels::dtype> common;
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    const std::string name =
        "model.layers." + std::to_string(config.layers - 1) + ".self_attn." + part + ".weight";
    const auto* tensor = files.find(name);
    if (tensor == nullptr)
      return fail(errc::invalid_argument,
                  folder.string() + " has no tensor " + name + "; do its weights belong to its config.json?");
    common = common && *common != tensor->dtype ? kernels::dtype::f32 : tensor->dtype;
  }
  return *common;
}

}  // namespace

block::model_spec spec_of(const model_config& config, kernels::dtype cache_dtype,
                          const id128& weights_digest) {
  return {.architecture = std::string{name_of(config.arch)},
          .layers = config.layers,
          .query_heads = config.query_heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .cache_dtype = cache_dtype,
          .rope = config.rope,
          .weights_digest = weights_digest};
}

std::vector<float> rope_frequencies_of(const model_config& config) {
  return kernels::rope_frequencies(rope_parameters_of(config.rope), config.head_dim);
}

result<model_outline> outline_of(const std::filesystem::path& model_folder,
                                 std::optional<kernels::dtype> cache_dtype) {
  auto config = load_model_config(model_folder);
  if (!config) return tl::unexpected(config.error());
  const auto files = tensor_files::open(model_folder);
  if (!files) return tl::unexpected(files.error());
  const auto weights = weights_dtype_of(*files, *config, model_folder);
  if (!weights) return tl::unexpected(weights.error());
  config->weights_dtype = *weights;
  const auto cached = cache_dtype.value_or(*weights);
  model_outline outline{.config = std::move(*config), .spec = {}, .shape = {}, .frequencies = {}};
  const auto& c = outline.config;
  outline.spec = spec_of(c, cached, files->digest());
  outline.shape = {c.layers, c.kv_heads, c.head_dim, cached};
  outline.frequencies = rope_frequencies_of(c);
  return outline;
}

model_outline outline_of(const runner& whole) {
  const auto frequencies = whole.rope_frequencies();
  return {.config = whole.config(),
          .spec = whole.spec(),
          .shape = whole.cache_shape(),
          .frequencies = {frequencies.begin(), frequencies.end()}};
}

}  // namespace weft::engine
