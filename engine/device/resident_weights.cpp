#include "resident_weights.hpp"

#include <algorithm>

namespace weft::engine {

namespace {

constexpr std::size_t piece_bytes = std::size_t{16} << 20U;

std::size_t bytes_of(const model_weights& weights, kernels::products allowed) {
  std::size_t bytes =
      weight_upload::bytes_of(weights.final_norm) + weight_upload::bytes_of(weights.output, allowed);
  for (const layer_weights& layer : weights.layers) {
    for (const auto* const vector :
         {&layer.attention_norm, &layer.mlp_norm, &layer.query_norm, &layer.key_norm})
      bytes += weight_upload::bytes_of(*vector);
    for (const auto* const matrix : {&layer.qkv, &layer.attention_out, &layer.gate_up, &layer.down})
      bytes += weight_upload::bytes_of(*matrix, allowed);
  }
  return bytes;
}

std::size_t widest_row_bytes(const model_weights& weights) {
  std::size_t inputs = weights.output.inputs();
  for (const layer_weights& layer : weights.layers)
    inputs = std::max<std::size_t>({inputs, layer.attention_out.inputs(), layer.down.inputs()});
  return inputs * sizeof(float);
}

}  // namespace

result<resident_weights> resident_weights::upload(const model_weights& weights, kernels::products allowed,
                                                  const std::shared_ptr<device::device>& owner,
                                                  device::stream& stream) {
  resident_weights made;
  const std::size_t bytes = bytes_of(weights, allowed);
  auto memory = owner->allocate(bytes, "the weights of the model");
  if (!memory) return tl::unexpected(memory.error());
  made.memory_ = std::move(*memory);
  const auto pinned = owner->allocate_pinned(
      std::max(std::min(bytes, piece_bytes), widest_row_bytes(weights)), "the weights of the model");
  if (!pinned) return tl::unexpected(pinned.error());
  weight_upload to(made.memory_.data(), *pinned, allowed, stream);

  result<void> done;
  const auto put_matrix = [&](const kernels::linear& from, resident_matrix& at) {
    if (!done) return;
    if (auto put = to.matrix(from); put)
      at = *put;
    else
      done = tl::unexpected(put.error());
  };
  const auto put_vector = [&](std::span<const float> from, const float*& at) {
    if (!done) return;
    if (auto put = to.vector(from); put)
      at = *put;
    else
      done = tl::unexpected(put.error());
  };
  for (const layer_weights& layer : weights.layers) {
    resident_layer& at = made.layers_.emplace_back();
    put_vector(layer.attention_norm, at.attention_norm);
    put_vector(layer.mlp_norm, at.mlp_norm);
    put_vector(layer.query_norm, at.query_norm);
    put_vector(layer.key_norm, at.key_norm);
    put_matrix(layer.qkv, at.qkv);
    put_matrix(layer.attention_out, at.attention_out);
    put_matrix(layer.gate_up, at.gate_up);
    put_matrix(layer.down, at.down);
  }
  put_vector(weights.final_norm, made.final_norm_);
  put_matrix(weights.output, made.output_);
  if (!done) return tl::unexpected(done.error());
  return made;
}

}  // namespace weft::engine
