#include <weft/kernels/cuda/activations.hpp>

#include "cuda/activations_body.hpp"
#include "cuda/block_memory.cuh"
#include "cuda/launch.cuh"
#include "cuda/warp.cuh"

#include <algorithm>

namespace weft::kernels::cuda {

namespace {

constexpr std::uint32_t block_threads = 256;
constexpr std::uint32_t block_warps = block_threads / warp_lanes;
constexpr std::size_t most_blocks = std::size_t{1} << 30U;
// Longer vectors are a thread block's, shorter ones a warp's.
constexpr std::uint32_t longest_of_warp = 512;

template <class Elements>
__global__ void __launch_bounds__(block_threads) norm_short(norm_work work, std::size_t vectors) {
  const std::uint32_t lane = threadIdx.x % warp_lanes;
  const device_warp warp;
  const std::size_t step = std::size_t{gridDim.x} * block_warps;
  for (std::size_t i = std::size_t{blockIdx.x} * block_warps + threadIdx.x / warp_lanes; i < vectors;
       i += step) {
    const float* const x = norm_input(work, i);
    const auto sums = sum_of_squares(warp, x, work.columns, 0, warp_lanes);
    write_normed<Elements>(work, x, norm_factor(sums[lane], work.columns, work.epsilon),
                           norm_output<Elements>(work, i), lane, warp_lanes);
  }
}

template <class Elements>
__global__ void __launch_bounds__(block_threads) norm_long(norm_work work, std::size_t vectors) {
  WEFT_SHARED(float[block_warps], parts);
  const device_warp warp;
  for (std::size_t i = blockIdx.x; i < vectors; i += gridDim.x) {
    const float* const x = norm_input(work, i);
    const auto sums =
        sum_of_squares(warp, x, work.columns, threadIdx.x / warp_lanes * warp_lanes, block_threads);
    if (threadIdx.x % warp_lanes == 0) parts[threadIdx.x / warp_lanes] = sums[0];
    __syncthreads();
    float total = 0;
    for (std::uint32_t part = 0; part < block_warps; ++part)
      total += parts[part];
    write_normed<Elements>(work, x, norm_factor(total, work.columns, work.epsilon),
                           norm_output<Elements>(work, i), threadIdx.x, block_threads);
    __syncthreads();
  }
}

template <class Elements>
cudaError_t launch_norm(const norm_work& work, cudaStream_t stream) {
  const std::size_t vectors = std::size_t{work.rows} * work.groups;
  const bool is_long = work.columns > longest_of_warp;
  const std::size_t blocks = is_long ? vectors : (vectors + block_warps - 1) / block_warps;
  const auto launched = static_cast<unsigned>(std::min(blocks, most_blocks));
  if (is_long) return launch_kernel<norm_long<Elements>>({launched, block_threads}, stream, work, vectors);
  return launch_kernel<norm_short<Elements>>({launched, block_threads}, stream, work, vectors);
}

// `body(work, row, column)` for all of them.
template <class Work, class Body>
__global__ void __launch_bounds__(block_threads)
    each_value(Work work, std::size_t values, std::uint32_t columns, Body body) {
  const std::size_t step = std::size_t{gridDim.x} * block_threads;
  for (std::size_t i = std::size_t{blockIdx.x} * block_threads + threadIdx.x; i < values; i += step)
    body(work, i / columns, static_cast<std::uint32_t>(i % columns));
}

template <class Work, class Body>
cudaError_t launch_values(const Work& work, std::uint32_t columns, const Body& body, cudaStream_t stream) {
  const std::size_t values = std::size_t{work.rows} * columns;
  if (values == 0) return cudaSuccess;
  const auto blocks =
      static_cast<unsigned>(std::min((values + block_threads - 1) / block_threads, most_blocks));
  return launch_kernel<each_value<Work, Body>>({blocks, block_threads}, stream, work, values, columns, body);
}

struct bias_body {
  __device__ void operator()(const bias_work& work, std::size_t row, std::uint32_t column) const {
    add_bias_to(work, row, column);
  }
};
template <class Elements>
struct round_body {
  __device__ void operator()(const round_work& work, std::size_t row, std::uint32_t column) const {
    round_value<Elements>(work, row, column);
  }
};
template <class Elements>
struct swiglu_body {
  __device__ void operator()(const swiglu_work& work, std::size_t row, std::uint32_t column) const {
    swiglu_value<Elements>(work, row, column);
  }
};
struct gelu_body {
  __device__ void operator()(const gelu_work& work, std::size_t row, std::uint32_t column) const {
    gelu_value(work, row, column);
  }
};
struct rotation_body {
  __device__ void operator()(const rotation_work& work, std::size_t row, std::uint32_t pair) const {
    rotate_pair(work, row, pair);
  }
};
struct move_body {
  __device__ void operator()(const move_work& work, std::size_t row, std::uint32_t column) const {
    move_value(work, row, column);
  }
};

__global__ void __launch_bounds__(block_threads)
    label_items(const label_item* items, std::uint32_t count, std::uint32_t most_rows) {
  const std::size_t step = std::size_t{gridDim.x} * block_threads;
  const std::size_t places = std::size_t{count} * most_rows;
  for (std::size_t i = std::size_t{blockIdx.x} * block_threads + threadIdx.x; i < places; i += step) {
    const label_item& item = items[i / most_rows];
    const auto row = static_cast<std::uint32_t>(i % most_rows);
    if (row < item.rows) label_row(item, row);
  }
}

}  // namespace

cudaError_t norm_rows(const norm_work& work, cudaStream_t stream) {
  if (work.rows == 0 || work.groups == 0 || work.columns == 0) return cudaSuccess;
  switch (work.out_type) {
    case dtype::bf16:
      return launch_norm<bf16_elements>(work, stream);
    case dtype::f16:
      return launch_norm<f16_elements>(work, stream);
    default:
      return launch_norm<f32_elements>(work, stream);
  }
}

cudaError_t add_bias(const bias_work& work, cudaStream_t stream) {
  return launch_values(work, work.columns, bias_body{}, stream);
}

cudaError_t round_rows(const round_work& work, cudaStream_t stream) {
  switch (work.out_type) {
    case dtype::bf16:
      return launch_values(work, work.columns, round_body<bf16_elements>{}, stream);
    case dtype::f16:
      return launch_values(work, work.columns, round_body<f16_elements>{}, stream);
    default:
      return launch_values(work, work.columns, round_body<f32_elements>{}, stream);
  }
}

cudaError_t swiglu_rows(const swiglu_work& work, cudaStream_t stream) {
  switch (work.out_type) {
    case dtype::bf16:
      return launch_values(work, work.columns, swiglu_body<bf16_elements>{}, stream);
    case dtype::f16:
      return launch_values(work, work.columns, swiglu_body<f16_elements>{}, stream);
    default:
      return launch_values(work, work.columns, swiglu_body<f32_elements>{}, stream);
  }
}

cudaError_t gelu_rows(const gelu_work& work, cudaStream_t stream) {
  return launch_values(work, work.columns, gelu_body{}, stream);
}

cudaError_t rotate_rows(const rotation_work& work, cudaStream_t stream) {
  if (work.head_dim % 2 != 0) return cudaErrorInvalidValue;
  return launch_values(work, work.heads * (work.head_dim / 2), rotation_body{}, stream);
}

cudaError_t move_rows(const move_work& work, cudaStream_t stream) {
  return launch_values(work, work.columns, move_body{}, stream);
}

cudaError_t label_rows(const label_item* items, std::uint32_t count, std::uint32_t most_rows,
                       cudaStream_t stream) {
  const std::size_t places = std::size_t{count} * most_rows;
  if (places == 0) return cudaSuccess;
  const auto blocks =
      static_cast<unsigned>(std::min((places + block_threads - 1) / block_threads, most_blocks));
  return launch_kernel<label_items>({blocks, block_threads}, stream, items, count, most_rows);
}

}  // namespace weft::kernels::cuda
