#include "model_weights.hpp"

#include <weft/kernels/convert.hpp>

#include <array>
#include <string>
#include <utility>

namespace weft::engine {

namespace {

struct named_part {
  std::string name;  // without ".weight"
  std::uint32_t outputs = 0;
};

class loader {
 public:
  loader(const model_config& config, weight_source& source, kernels::products allowed,
         kernels::thread_pool& pool)
      : config_(config), source_(source), allowed_(allowed), pool_(pool) {}

  result<model_weights> load() {
    model_weights weights;
    auto embedding = source_.embedding(embedding_name, config_.vocab_size, config_.hidden_size);
    if (!embedding) return tl::unexpected(embedding.error());
    weights.embedding = std::move(*embedding);
    for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
      auto loaded = load_layer("model.layers." + std::to_string(layer) + ".");
      if (!loaded) return tl::unexpected(loaded.error());
      weights.layers.push_back(std::move(*loaded));
    }
    if (auto read = read_vector("model.norm.weight", config_.hidden_size, weights.final_norm); !read)
      return tl::unexpected(read.error());
    const std::string output = config_.tied_embeddings ? "model.embed_tokens" : "lm_head";
    if (auto read = read_linear({{output, config_.vocab_size}}, config_.hidden_size, false, weights.output);
        !read)
      return tl::unexpected(read.error());
    if (auto checked = source_.check_all_used(); !checked) return tl::unexpected(checked.error());
    weights.dtype = attention_dtype_;
    return weights;
  }

 private:
  static constexpr auto embedding_name = "model.embed_tokens.weight";

  result<layer_weights> load_layer(const std::string& prefix) {
    const std::uint32_t queries = config_.query_heads * config_.head_dim;
    const std::uint32_t keys = config_.kv_heads * config_.head_dim;
    const std::string attention = prefix + "self_attn.";
    const std::string mlp = prefix + "mlp.";
    layer_weights layer;
    auto read = read_vector(prefix + "input_layernorm.weight", config_.hidden_size, layer.attention_norm);
    const auto then = [&read](auto&& step) {
      if (!read) return;
      if (auto done = step(); !done) read = tl::unexpected(done.error());
    };
    then([&] {
      return read_linear({{attention + "q_proj", queries},
                          {attention + "k_proj", keys},
                          {attention + "v_proj", keys}},
                         config_.hidden_size, config_.attention_bias, layer.qkv)
          .map([&](kernels::dtype type) { attention_dtype_ = type; });
    });
    if (config_.qk_norm) {
      then([&] { return read_vector(attention + "q_norm.weight", config_.head_dim, layer.query_norm); });
      then([&] { return read_vector(attention + "k_norm.weight", config_.head_dim, layer.key_norm); });
    }
    then([&] {
      return read_linear({{attention + "o_proj", config_.hidden_size}}, queries, false, layer.attention_out);
    });
    then([&] {
      return read_vector(prefix + "post_attention_layernorm.weight", config_.hidden_size, layer.mlp_norm);
    });
    then([&] {
      return read_linear(
          {{mlp + "gate_proj", config_.intermediate_size}, {mlp + "up_proj", config_.intermediate_size}},
          config_.hidden_size, false, layer.gate_up);
    });
    then([&] {
      return read_linear({{mlp + "down_proj", config_.hidden_size}}, config_.intermediate_size, false,
                         layer.down);
    });
    if (!read) return tl::unexpected(read.error());
    return layer;
  }

  result<void> read_vector(const std::string& name, std::uint32_t size, std::vector<float>& out) {
    const auto tensor = source_.tensor(name, std::array<std::uint64_t, 1>{size});
    if (!tensor) return tl::unexpected(tensor.error());
    const std::size_t at = out.size();
    out.resize(at + size);
    kernels::to_f32(tensor->dtype, tensor->bytes.data(), out.data() + at, size);
    return {};
  }

  // Returns the type that the weights are stored in.
  result<kernels::dtype> read_linear(const std::vector<named_part>& parts, std::uint32_t inputs, bool biased,
                                     kernels::linear& out) {
    std::vector<loaded_tensor> tensors;
    std::vector<float> bias;
    for (const auto& part : parts) {
      auto tensor = source_.tensor(part.name + ".weight", std::array<std::uint64_t, 2>{part.outputs, inputs});
      if (!tensor) return tl::unexpected(tensor.error());
      tensors.push_back(std::move(*tensor));
      if (!biased) continue;
      if (auto read = read_vector(part.name + ".bias", part.outputs, bias); !read)
        return tl::unexpected(read.error());
    }
    const kernels::dtype type = common_dtype(tensors);
    std::vector<kernels::weight_part> stacked;
    for (std::size_t i = 0; i < parts.size(); ++i)
      stacked.push_back({tensors[i].bytes.data(), parts[i].outputs});
    out = kernels::linear(stacked, type, inputs, allowed_, pool_, bias);
    return type;
  }

  // Parts of one product have one type; where a file mixes them, all become f32, which loses nothing.
  static kernels::dtype common_dtype(std::vector<loaded_tensor>& tensors) {
    const kernels::dtype first = tensors.front().dtype;
    bool mixed = false;
    for (const auto& tensor : tensors)
      mixed = mixed || tensor.dtype != first;
    if (!mixed) return first;
    for (auto& tensor : tensors) {
      const std::size_t count = tensor.bytes.size() / kernels::size_bytes(tensor.dtype);
      std::vector<std::byte> widened(count * sizeof(float));
      kernels::to_f32(tensor.dtype, tensor.bytes.data(), reinterpret_cast<float*>(widened.data()), count);
      tensor.generated = std::move(widened);
      tensor.bytes = tensor.generated;
      tensor.dtype = kernels::dtype::f32;
    }
    return kernels::dtype::f32;
  }

  const model_config& config_;
  weight_source& source_;
  kernels::products allowed_;
  kernels::thread_pool& pool_;
  kernels::dtype attention_dtype_ = kernels::dtype::f32;
};

}  // namespace

result<model_weights> load_weights(const model_config& config, weight_source& source,
                                   kernels::products allowed, kernels::thread_pool& pool) {
  return loader(config, source, allowed, pool).load();
}

}  // namespace weft::engine
