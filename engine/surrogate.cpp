#include <weft/engine/safetensors.hpp>
#include <weft/engine/surrogate.hpp>
#include <weft/kernels/convert.hpp>

#include "device/resident_surrogate.hpp"
#include "weights_stamp.hpp"

#include <string>
#include <utility>

namespace weft::engine {

namespace {

std::string retrain(const std::filesystem::path& file) {
  const bool linear = file.filename() == "kvzap_linear.safetensors";
  return "train it with `weft surrogate train --kind " + std::string{linear ? "linear" : "mlp"} +
         " --model DIR --text FILE... --out " + file.string() + "`";
}

std::string layer_name(std::size_t layer, const char* tensor) {
  return "layers." + std::to_string(layer) + "." + tensor;
}

kernels::linear matrix_of(const std::vector<float>& weights, std::size_t outputs, std::size_t inputs,
                          const std::vector<float>& bias, kernels::thread_pool& pool) {
  const kernels::weight_part part{std::as_bytes(std::span(weights)).data(),
                                  static_cast<std::uint32_t>(outputs)};
  return {std::span(&part, 1),
          kernels::dtype::f32,
          static_cast<std::uint32_t>(inputs),
          kernels::products::f32,
          pool,
          bias};
}

// Empty if there is none of that name.
std::vector<float> floats_of(const tensor_files& file, const std::string& name) {
  const tensor_view* tensor = file.find(name);
  if (tensor == nullptr) return {};
  std::vector<float> values(tensor->bytes.size() / kernels::size_bytes(tensor->dtype));
  kernels::to_f32(tensor->dtype, tensor->bytes.data(), values.data(), values.size());
  return values;
}

}  // namespace

std::string_view name_of(surrogate_kind kind) {
  return kind == surrogate_kind::linear ? "linear" : "mlp";
}

std::optional<surrogate_kind> surrogate_kind_from_name(std::string_view name) {
  if (name == "linear") return surrogate_kind::linear;
  if (name == "mlp") return surrogate_kind::mlp;
  return std::nullopt;
}

std::filesystem::path surrogate_file(const std::filesystem::path& model_folder, surrogate_kind kind) {
  return model_folder / ("kvzap_" + std::string{name_of(kind)} + ".safetensors");
}

result<surrogate> surrogate::make(const std::vector<surrogate_layer>& layers, runner& model) {
  const model_config& config = model.config();
  const auto wrong = [](const std::string& what) {
    return fail(errc::invalid_argument, what + " do not fit the model");
  };
  if (layers.size() != config.layers) return wrong(std::to_string(layers.size()) + " layers of a surrogate");
  surrogate made(model);
  made.has_hidden_ = !layers.front().hidden_bias.empty();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const surrogate_layer& layer = layers[i];
    const std::size_t hidden = layer.hidden_bias.size();
    const std::size_t inputs = made.has_hidden_ ? hidden : config.hidden_size;
    if ((hidden != 0) != made.has_hidden_ || layer.hidden_weights.size() != hidden * config.hidden_size ||
        layer.weights.size() != config.kv_heads * inputs || layer.bias.size() != config.kv_heads)
      return wrong("a surrogate's tensors of layer " + std::to_string(i));
    made.layers_.push_back({made.has_hidden_ ? matrix_of(layer.hidden_weights, hidden, config.hidden_size,
                                                         layer.hidden_bias, model.threads())
                                             : kernels::linear{},
                            matrix_of(layer.weights, config.kv_heads, inputs, layer.bias, model.threads())});
  }
  return made;
}

result<surrogate> surrogate::load(const std::filesystem::path& file, runner& model) {
  std::error_code code;
  if (!std::filesystem::exists(file, code))
    return fail(errc::not_found, "there is no surrogate " + file.string() + "; " + retrain(file));
  const auto opened = tensor_files::open_file(file);
  if (!opened) return tl::unexpected(opened.error());
  if (auto own = check_stamp(*opened, file.string(), model.spec().weights_digest, retrain(file)); !own)
    return tl::unexpected(own.error());
  std::vector<surrogate_layer> layers;
  for (std::size_t layer = 0; opened->find(layer_name(layer, "weight")) != nullptr; ++layer)
    layers.push_back({.hidden_weights = floats_of(*opened, layer_name(layer, "hidden.weight")),
                      .hidden_bias = floats_of(*opened, layer_name(layer, "hidden.bias")),
                      .weights = floats_of(*opened, layer_name(layer, "weight")),
                      .bias = floats_of(*opened, layer_name(layer, "bias"))});
  auto made = make(layers, model);
  if (!made) return fail(errc::corrupt, file.string() + ": " + made.error().context + "; " + retrain(file));
  return made;
}

const resident_surrogate* surrogate::there() {
  if (!there_ && model_->device())
    if (auto made = resident_surrogate::upload(layers_, model_->device())) there_ = std::move(*made);
  return there_.get();
}

void surrogate::guess(std::uint32_t layer, const float* hidden, std::uint32_t rows, std::span<float> out) {
  const surrogate_matrices& matrices = layers_[layer];
  const std::uint32_t width = model_->config().hidden_size;
  kernels::thread_pool& pool = model_->threads();
  packed_.pack(hidden, rows, width, width, kernels::dtype::f32, pool);
  if (has_hidden_) {
    const std::uint32_t inner = matrices.hidden.outputs();
    between_.resize(std::size_t{rows} * inner);
    matrices.hidden.apply(packed_, between_.data(), inner, pool);
    gelu(between_);
    packed_.pack(between_.data(), rows, inner, inner, kernels::dtype::f32, pool);
  }
  matrices.output.apply(packed_, out.data(), matrices.output.outputs(), pool);
}

result<void> write_surrogate(const std::filesystem::path& file, const std::vector<surrogate_layer>& layers,
                             const runner& model) {
  const auto stamp = stamp_of(model.spec().weights_digest);
  std::vector<tensor_to_write> tensors{stamp_tensor(stamp)};
  const auto add = [&](std::string name, const std::vector<float>& values, std::size_t rows, bool matrix) {
    std::vector<std::uint64_t> shape{rows};
    if (matrix) shape.push_back(values.size() / rows);
    tensors.push_back({std::move(name), "F32", std::move(shape), std::as_bytes(std::span(values))});
  };
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const surrogate_layer& layer = layers[i];
    if (!layer.hidden_bias.empty()) {
      add(layer_name(i, "hidden.weight"), layer.hidden_weights, layer.hidden_bias.size(), true);
      add(layer_name(i, "hidden.bias"), layer.hidden_bias, layer.hidden_bias.size(), false);
    }
    add(layer_name(i, "weight"), layer.weights, layer.bias.size(), true);
    add(layer_name(i, "bias"), layer.bias, layer.bias.size(), false);
  }
  return write_safetensors(file, tensors);
}

}  // namespace weft::engine
