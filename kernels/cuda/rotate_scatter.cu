#include <weft/kernels/cuda/rotate_scatter.hpp>

#include "cuda/launch.cuh"
#include "cuda/rotate_scatter_body.hpp"

#include <algorithm>

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 256;

// A block takes the parts of `block_threads / parts` rows of one item at a time.
template <class Elements, int Width>
__global__ void rotate_items(const scatter_rows* items, std::uint32_t count, std::uint32_t row_groups,
                             std::uint32_t head_dim) {
  const std::uint32_t parts = head_dim / 2 / Width;
  const std::uint32_t rows_at_once = blockDim.x / parts;
  const std::uint32_t row_in_group = threadIdx.x / parts;
  if (row_in_group >= rows_at_once) return;
  const std::uint64_t work = std::uint64_t{count} * row_groups;
  for (std::uint64_t unit = blockIdx.x; unit < work; unit += gridDim.x) {
    const scatter_rows item = items[unit / row_groups];
    const auto row = static_cast<std::uint32_t>(unit % row_groups) * rows_at_once + row_in_group;
    if (row < item.rows) rotate_stored_part<Elements, Width>(item, row, threadIdx.x % parts, head_dim);
  }
}

template <class Elements, int Width>
cudaError_t launch(const scatter_rows* items, std::uint32_t count, std::uint32_t most_rows,
                   std::uint32_t head_dim, cudaStream_t stream) {
  const std::uint32_t parts = head_dim / 2 / Width;
  if (parts > block_threads) return cudaErrorInvalidValue;
  const std::uint32_t rows_at_once = block_threads / parts;
  const std::uint32_t row_groups = (most_rows + rows_at_once - 1) / rows_at_once;
  const auto blocks = static_cast<unsigned>(
      std::min<std::uint64_t>(std::uint64_t{count} * row_groups, std::uint64_t{1} << 30));
  return launch_kernel<rotate_items<Elements, Width>>({blocks, block_threads}, stream, items, count,
                                                      row_groups, head_dim);
}

// The widest move whose parts divide the half of a head.
template <class Elements>
cudaError_t launch_widest(const scatter_rows* items, std::uint32_t count, std::uint32_t most_rows,
                          std::uint32_t head_dim, cudaStream_t stream) {
  constexpr int widest = 16 / sizeof(typename Elements::storage);
  if (head_dim / 2 % widest == 0) return launch<Elements, widest>(items, count, most_rows, head_dim, stream);
  return launch<Elements, 1>(items, count, most_rows, head_dim, stream);
}

}  // namespace

cudaError_t rotate_scatter(const scatter_rows* items, std::uint32_t count, std::uint32_t most_rows,
                           std::uint32_t head_dim, dtype type, cudaStream_t stream) {
  if (head_dim == 0 || head_dim % 2 != 0) return cudaErrorInvalidValue;
  if (count == 0 || most_rows == 0) return cudaSuccess;
  switch (type) {
    case dtype::bf16:
      return launch_widest<bf16_elements>(items, count, most_rows, head_dim, stream);
    case dtype::f16:
      return launch_widest<f16_elements>(items, count, most_rows, head_dim, stream);
    default:
      return launch_widest<f32_elements>(items, count, most_rows, head_dim, stream);
  }
}

}  // namespace weft::kernels::cuda
