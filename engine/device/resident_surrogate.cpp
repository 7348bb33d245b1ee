#include "resident_surrogate.hpp"

#include <weft/engine/surrogate.hpp>

#include "device_alignment.hpp"
#include "device_kernels.hpp"

#include <algorithm>
#include <string>
#include <string_view>

namespace weft::engine {

namespace {

constexpr std::string_view purpose = "a surrogate of the model";
constexpr auto exact = kernels::products::f32;
constexpr std::size_t part_of_free = 16;  // the caches of passes come first
// At once: what is between products has room for them. A multiple of what products want addresses at.
constexpr std::uint32_t most_rows = 512;
static_assert(most_rows * sizeof(float) % device_alignment_bytes == 0);

bool has_hidden(const surrogate_matrices& layer) {
  return layer.hidden.outputs() > 0;
}

std::size_t rows_bytes(std::size_t width) {
  return aligned_on_device(most_rows * width * sizeof(float));
}

}  // namespace

result<std::shared_ptr<resident_surrogate>> resident_surrogate::upload(
    std::span<const surrogate_matrices> layers, std::shared_ptr<const compute_device> on) {
  std::size_t weights_bytes = 0, widest_row_bytes = 0, inner = 0, heads = 0;
  for (const surrogate_matrices& layer : layers) {
    for (const kernels::linear* const matrix : {&layer.hidden, &layer.output}) {
      weights_bytes += weight_upload::bytes_of(*matrix, exact);
      widest_row_bytes = std::max(widest_row_bytes, matrix->inputs() * sizeof(float));
    }
    inner = std::max<std::size_t>(inner, layer.hidden.outputs());
    heads = std::max<std::size_t>(heads, layer.output.outputs());
  }
  device::device& memory = *on->memory;
  const std::size_t bytes = weights_bytes + rows_bytes(inner) + rows_bytes(heads);
  if (bytes > memory.sizes().free_bytes / part_of_free)
    return fail(errc::out_of_space, std::string(purpose) + " would take much of the device's memory");
  auto stream = memory.make_stream();
  if (!stream) return tl::unexpected(stream.error());
  auto there = memory.allocate(bytes, purpose);
  if (!there) return tl::unexpected(there.error());
  const auto pinned =
      memory.allocate_pinned(std::max(weights_bytes / layers.size(), widest_row_bytes), purpose);
  if (!pinned) return tl::unexpected(pinned.error());

  std::shared_ptr<resident_surrogate> made(new resident_surrogate(std::move(on)));
  weight_upload to(there->data(), *pinned, exact, **stream);
  for (const surrogate_matrices& layer : layers) {
    resident_layer_matrices& at = made->layers_.emplace_back();
    if (has_hidden(layer)) {
      const auto hidden = to.matrix(layer.hidden);
      if (!hidden) return tl::unexpected(hidden.error());
      at.hidden = *hidden;
    }
    const auto output = to.matrix(layer.output);
    if (!output) return tl::unexpected(output.error());
    at.output = *output;
  }
  std::byte* const behind_weights = there->data() + weights_bytes;
  made->between_ = reinterpret_cast<float*>(behind_weights);
  made->guesses_ = reinterpret_cast<float*>(behind_weights + rows_bytes(inner));
  made->memory_ = std::move(*there);
  return made;
}

void resident_surrogate::guess(std::uint32_t layer, const float* normed, std::uint32_t rows, float* out,
                               device::stream& behind) const {
  const auto& [hidden, output] = layers_[layer];
  const std::size_t width = hidden.outputs > 0 ? hidden.inputs : output.inputs;
  while (rows > 0) {
    const std::uint32_t some = std::min(rows, most_rows);
    const float* x = normed;
    if (hidden.outputs > 0) {
      multiply(hidden, x, some, between_, behind);
      on_->kernels->gelu_rows(
          {.x = between_, .x_stride = hidden.outputs, .rows = some, .columns = hidden.outputs}, behind);
      x = between_;
    }
    multiply(output, x, some, guesses_, behind);
    const std::size_t values = std::size_t{some} * output.outputs;
    behind.download(out, reinterpret_cast<const std::byte*>(guesses_), values * sizeof(float));
    normed += some * width;
    out += values;
    rows -= some;
  }
}

void resident_surrogate::multiply(const resident_matrix& matrix, const float* x, std::uint32_t rows, float* y,
                                  device::stream& behind) const {
  engine::multiply(matrix,
                   {.x = reinterpret_cast<const std::byte*>(x),
                    .y = y,
                    .y_stride = matrix.outputs,
                    .rows = rows,
                    .outputs = matrix.outputs},
                   *on_->kernels, behind);
}

}  // namespace weft::engine
