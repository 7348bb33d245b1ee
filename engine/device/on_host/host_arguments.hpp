// How kernels on the host read arguments that a GPU's kernels are called with.
#pragma once

#include <weft/kernels/dtype.hpp>

#include "cuda/elements.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::engine {

// From the first element of the first row to the last one of the last.
constexpr std::size_t span_of(std::size_t rows, std::size_t stride, std::size_t width) {
  return rows == 0 ? 0 : (rows - 1) * stride + width;
}

// What rows begin at a multiple of where `bytes` of each are moved by as wide a move as they divide into.
constexpr std::size_t move_bytes(std::size_t bytes, std::size_t element_bytes) {
  constexpr std::size_t widest = 16;
  return bytes % widest == 0 ? widest : element_bytes;
}

// `run` with the element type as a template argument.
template <class Run>
void for_elements(kernels::dtype type, const Run& run) {
  if (type == kernels::dtype::bf16)
    run.template operator()<kernels::cuda::bf16_elements>();
  else if (type == kernels::dtype::f16)
    run.template operator()<kernels::cuda::f16_elements>();
  else
    run.template operator()<kernels::cuda::f32_elements>();
}

// `run` with the channels that tensor cores' tiles have for heads of this size.
template <class Run>
void for_channels(std::uint32_t head_dim, const Run& run) {
  if (head_dim <= 64)
    run.template operator()<64>();
  else if (head_dim <= 128)
    run.template operator()<128>();
  else
    run.template operator()<256>();
}

}  // namespace weft::engine
