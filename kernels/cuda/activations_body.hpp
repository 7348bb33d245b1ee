// What warps and threads do for the operations of activation_work.hpp.
#pragma once

#include <weft/kernels/cuda/activation_work.hpp>

#include "cuda/elements.hpp"
#include "cuda/lanes.hpp"
#include "cuda/rotate_scatter_body.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// A vector is the work of some neighbouring threads: from `first` on, every `step`-th value.

// One warp's part of a vector's sum of squares, in every lane.
template <class Warp>
WEFT_BOTH_SIDES typename Warp::template each_lanes<float> sum_of_squares(const Warp& warp, const float* x,
                                                                         std::uint32_t columns,
                                                                         std::uint32_t first,
                                                                         std::uint32_t step) {
  typename Warp::template each_lanes<float> sums;
  warp.each([&](std::uint32_t lane) {
    float sum = 0;
    for (std::uint32_t i = first + lane; i < columns; i += step)
      sum += x[i] * x[i];
    sums[lane] = sum;
  });
  return warp.sum_over_quads(warp.sum_of_quad(sums));
}

WEFT_BOTH_SIDES inline float norm_factor(float sum_of_squares, std::uint32_t columns, float epsilon) {
  const float mean = sum_of_squares / static_cast<float>(columns);
#if defined(__CUDA_ARCH__)
  return 1.0F / sqrtf(mean + epsilon);
#else
  return 1.0F / __builtin_sqrtf(mean + epsilon);
#endif
}

template <class Elements>
WEFT_BOTH_SIDES void write_normed(const norm_work& work, const float* x, float factor,
                                  typename Elements::storage* out, std::uint32_t first, std::uint32_t step) {
  for (std::uint32_t i = first; i < work.columns; i += step)
    out[i] = Elements::narrow(x[i] * factor * work.weight[i]);
}

// Where the vectors of a work lie; vector v is number v % groups of its row.
WEFT_BOTH_SIDES inline const float* norm_input(const norm_work& work, std::size_t vector) {
  return work.x + vector / work.groups * work.x_stride + vector % work.groups * work.columns;
}

template <class Elements>
WEFT_BOTH_SIDES typename Elements::storage* norm_output(const norm_work& work, std::size_t vector) {
  return reinterpret_cast<typename Elements::storage*>(work.out) + vector / work.groups * work.out_stride +
         vector % work.groups * work.columns;
}

// One thread each, for one value (or, of a rotation, for one pair) of one row.

WEFT_BOTH_SIDES inline void add_bias_to(const bias_work& work, std::size_t row, std::uint32_t column) {
  work.x[row * work.x_stride + column] += work.bias[column];
}

template <class Elements>
WEFT_BOTH_SIDES void round_value(const round_work& work, std::size_t row, std::uint32_t column) {
  reinterpret_cast<typename Elements::storage*>(work.out)[row * work.columns + column] =
      Elements::narrow(work.x[row * work.x_stride + column]);
}

template <class Elements>
WEFT_BOTH_SIDES void swiglu_value(const swiglu_work& work, std::size_t row, std::uint32_t column) {
  const float* const gates = work.gate_up + row * 2 * work.columns;
  const float gate = gates[column];
#if defined(__CUDA_ARCH__)
  const float silu = gate / (1.0F + expf(-gate));
#else
  const float silu = gate / (1.0F + __builtin_expf(-gate));
#endif
  reinterpret_cast<typename Elements::storage*>(work.out)[row * work.columns + column] =
      Elements::narrow(silu * gates[work.columns + column]);
}

WEFT_BOTH_SIDES inline void gelu_value(const gelu_work& work, std::size_t row, std::uint32_t column) {
  constexpr float half_root = 0.70710678118654752F;
  float& x = work.x[row * work.x_stride + column];
#if defined(__CUDA_ARCH__)
  x = 0.5F * x * (1.0F + erff(x * half_root));
#else
  x = 0.5F * x * (1.0F + __builtin_erff(x * half_root));
#endif
}

// Pair p of a row: channels j and j + head_dim/2 of a head.
WEFT_BOTH_SIDES inline void rotate_pair(const rotation_work& work, std::size_t row, std::uint32_t pair) {
  const std::uint32_t half = work.head_dim / 2;
  float* const x = work.x + row * work.x_stride + std::size_t{pair / half} * work.head_dim + pair % half;
  const float* const cosine = work.rotations + row * work.head_dim + pair % half;
  const float low = x[0];
  const float high = x[half];
  x[0] = rotated(low, high, cosine[0], cosine[half]);
  x[half] = rotated(high, low, cosine[0], -cosine[half]);
}

WEFT_BOTH_SIDES inline void move_value(const move_work& work, std::size_t row, std::uint32_t column) {
  work.to[row * work.to_stride + column] = work.from[work.row[row] * work.from_stride + column];
}

// `Item` is a label_item.
template <class Item>
WEFT_BOTH_SIDES void label_row(const Item& item, std::uint32_t row) {
  item.positions_out[row] = item.positions[row];
  item.segments_out[row] = item.segments[row];
}

}  // namespace weft::kernels::cuda
