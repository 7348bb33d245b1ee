#include "resident_weights.hpp"

#include <weft/kernels/convert.hpp>

#include "device_alignment.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::size_t piece_bytes = std::size_t{16} << 20U;

kernels::dtype type_of(const kernels::linear& matrix, kernels::products allowed) {
  return allowed == kernels::products::f32 ? kernels::dtype::f32 : matrix.weights_dtype();
}

std::size_t bytes_of(const kernels::linear& matrix, kernels::products allowed) {
  const std::size_t bias = matrix.bias().empty() ? 0 : matrix.outputs() * sizeof(float);
  return aligned_on_device(std::size_t{matrix.outputs()} * matrix.inputs() *
                           kernels::size_bytes(type_of(matrix, allowed))) +
         aligned_on_device(bias);
}

std::size_t bytes_of(std::span<const float> vector) {
  return aligned_on_device(vector.size_bytes());
}

// Puts one thing behind the other into device memory, through pinned memory.
class uploader {
 public:
  uploader(std::byte* to, const device::memory& pinned, kernels::products allowed, device::stream& stream)
      : to_(to), pinned_(pinned), allowed_(allowed), stream_(stream) {}

  result<const float*> vector(std::span<const float> values) {
    if (values.empty()) return nullptr;
    auto* const at = std::exchange(to_, to_ + bytes_of(values));
    stream_.upload(at, values.data(), values.size_bytes());
    if (auto done = stream_.wait(); !done) return tl::unexpected(done.error());
    return reinterpret_cast<const float*>(at);
  }

  result<resident_matrix> matrix(const kernels::linear& from) {
    resident_matrix made{.type = type_of(from, allowed_), .outputs = from.outputs(), .inputs = from.inputs()};
    const std::size_t row_bytes = made.inputs * kernels::size_bytes(made.type);
    auto* const at = std::exchange(to_, to_ + aligned_on_device(made.outputs * row_bytes));
    const auto rows_at_once =
        static_cast<std::uint32_t>(std::max<std::size_t>(pinned_.size_bytes() / row_bytes, 1));
    row_.resize(made.inputs);
    for (std::uint32_t first = 0; first < made.outputs; first += rows_at_once) {
      const std::uint32_t rows = std::min(rows_at_once, made.outputs - first);
      for (std::uint32_t i = 0; i < rows; ++i) {
        from.weights_of(first + i, row_.data());
        kernels::from_f32(made.type, row_.data(), pinned_.data() + i * row_bytes, made.inputs);
      }
      stream_.upload(at + first * row_bytes, pinned_.data(), rows * row_bytes);
      if (auto done = stream_.wait(); !done) return tl::unexpected(done.error());
    }
    made.weights = at;
    if (from.bias().empty()) return made;
    const auto bias = vector(from.bias().first(made.outputs));
    if (!bias) return tl::unexpected(bias.error());
    made.bias = *bias;
    return made;
  }

 private:
  std::byte* to_;
  const device::memory& pinned_;
  kernels::products allowed_;
  device::stream& stream_;
  std::vector<float> row_;
};

std::size_t bytes_of(const model_weights& weights, kernels::products allowed) {
  std::size_t bytes = bytes_of(weights.final_norm) + bytes_of(weights.output, allowed);
  for (const layer_weights& layer : weights.layers) {
    for (const auto* const vector :
         {&layer.attention_norm, &layer.mlp_norm, &layer.query_norm, &layer.key_norm})
      bytes += bytes_of(*vector);
    for (const auto* const matrix : {&layer.qkv, &layer.attention_out, &layer.gate_up, &layer.down})
      bytes += bytes_of(*matrix, allowed);
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
  uploader to(made.memory_.data(), *pinned, allowed, stream);

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
