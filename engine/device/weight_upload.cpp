#include "weight_upload.hpp"

#include <weft/kernels/convert.hpp>

#include "device_alignment.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace {

kernels::dtype type_of(const kernels::linear& matrix, kernels::products allowed) {
  return allowed == kernels::products::f32 ? kernels::dtype::f32 : matrix.weights_dtype();
}

}  // namespace

std::size_t weight_upload::bytes_of(const kernels::linear& matrix, kernels::products allowed) {
  const std::size_t bias = matrix.bias().empty() ? 0 : matrix.outputs() * sizeof(float);
  return aligned_on_device(std::size_t{matrix.outputs()} * matrix.inputs() *
                           kernels::size_bytes(type_of(matrix, allowed))) +
         aligned_on_device(bias);
}

std::size_t weight_upload::bytes_of(std::span<const float> vector) {
  return aligned_on_device(vector.size_bytes());
}

result<const float*> weight_upload::vector(std::span<const float> values) {
  if (values.empty()) return nullptr;
  auto* const at = std::exchange(to_, to_ + bytes_of(values));
  stream_.upload(at, values.data(), values.size_bytes());
  if (auto done = stream_.wait(); !done) return tl::unexpected(done.error());
  return reinterpret_cast<const float*>(at);
}

result<resident_matrix> weight_upload::matrix(const kernels::linear& from) {
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

}  // namespace weft::engine
