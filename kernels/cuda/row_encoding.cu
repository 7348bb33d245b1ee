#include <weft/kernels/cuda/row_encoding.hpp>

#include "cuda/launch.cuh"
#include "cuda/row_encoding_body.hpp"

#include <algorithm>

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 128;
constexpr std::uint32_t most_channels = 4096;

template <class Elements>
__global__ void __launch_bounds__(block_threads)
    encode_items(const rows_to_encode* items, std::uint32_t count, std::uint32_t parts,
                 std::uint32_t head_dim) {
  const std::uint64_t work = std::uint64_t{count} * parts;
  for (std::uint64_t unit = blockIdx.x; unit < work; unit += gridDim.x) {
    const rows_to_encode item = items[unit / parts];
    if (item.coding == row_codec::raw) continue;
    const std::uint32_t scales = scales_of_row(item.coding, head_dim);
    const std::uint64_t at = unit % parts * block_threads + threadIdx.x;
    if (at < std::uint64_t{item.count} * scales)
      encode_scale<Elements>(item, static_cast<std::uint32_t>(at / scales),
                             static_cast<std::uint32_t>(at % scales), head_dim);
  }
}

template <class Elements>
cudaError_t launch(const rows_to_encode* items, std::uint32_t count, std::uint32_t most_rows,
                   std::uint32_t head_dim, cudaStream_t stream) {
  const std::uint64_t most_scales = std::uint64_t{most_rows} * scales_of_row(row_codec::int4, head_dim);
  const std::uint64_t parts = (most_scales + block_threads - 1) / block_threads;
  if (parts > UINT32_MAX) return cudaErrorInvalidValue;
  const auto blocks = static_cast<unsigned>(std::min<std::uint64_t>(count * parts, std::uint64_t{1} << 30));
  return launch_kernel<encode_items<Elements>>({blocks, block_threads}, stream, items, count,
                                               static_cast<std::uint32_t>(parts), head_dim);
}

}  // namespace

cudaError_t encode_rows(const rows_to_encode* items, std::uint32_t count, std::uint32_t most_rows,
                        std::uint32_t head_dim, dtype type, cudaStream_t stream) {
  if (head_dim == 0 || head_dim > most_channels) return cudaErrorInvalidValue;
  if (count == 0 || most_rows == 0) return cudaSuccess;
  switch (type) {
    case dtype::bf16:
      return launch<bf16_elements>(items, count, most_rows, head_dim, stream);
    case dtype::f16:
      return launch<f16_elements>(items, count, most_rows, head_dim, stream);
    default:
      return launch<f32_elements>(items, count, most_rows, head_dim, stream);
  }
}

}  // namespace weft::kernels::cuda
