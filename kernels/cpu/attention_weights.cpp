#include <weft/kernels/attention_weights.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_weights.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Sums of the vector's parts of four lanes.
HWY_INLINE void store_block_sums(f32_vector sums, float* out) {
#if HWY_TARGET == HWY_AVX3
  const hn::Half<f32_tag> half;
  const hn::Half<decltype(half)> quarter;
  const auto two = hn::Add(hn::LowerHalf(half, sums), hn::UpperHalf(half, sums));
  hn::StoreU(hn::Add(hn::LowerHalf(quarter, two), hn::UpperHalf(quarter, two)), quarter, out);
#elif HWY_TARGET == HWY_AVX2
  const hn::Half<f32_tag> half;
  hn::StoreU(hn::Add(hn::LowerHalf(half, sums), hn::UpperHalf(half, sums)), half, out);
#else
  hn::StoreU(sums, f32_tag(), out);
#endif
}

// Four vectors' sums, side by side.
HWY_INLINE void store_sums(f32_vector a, f32_vector b, f32_vector c, f32_vector d, float* out) {
#if HWY_TARGET == HWY_SCALAR
  out[0] = hn::GetLane(a);
  out[1] = hn::GetLane(b);
  out[2] = hn::GetLane(c);
  out[3] = hn::GetLane(d);
#else
  const f32_tag tag;
  const hn::Repartition<double, f32_tag> pairs;
  const auto both = [&](f32_vector low, f32_vector high) HWY_ATTR {
    return hn::BitCast(pairs,
                       hn::Add(hn::InterleaveLower(tag, low, high), hn::InterleaveUpper(tag, low, high)));
  };
  const auto ab = both(a, b);
  const auto cd = both(c, d);
  // Of each 128 bits a lane for each vector.
  store_block_sums(hn::Add(hn::BitCast(tag, hn::InterleaveLower(pairs, ab, cd)),
                           hn::BitCast(tag, hn::InterleaveUpper(pairs, ab, cd))),
                   out);
#endif
}

// Products of some query lines with `rows` keys that lie one behind the other: out[line * out_stride + row].
template <class Elements, std::size_t lines, std::size_t rows>
HWY_INLINE void products_of_rows(const typename Elements::storage* k, std::size_t head_dim, const float* q,
                                 float* out, std::size_t out_stride) {
  const f32_tag tag;
  const std::size_t whole = head_dim / lanes * lanes;
  f32_vector acc[lines][rows];
  for (std::size_t line = 0; line < lines; ++line)
    for (std::size_t row = 0; row < rows; ++row)
      acc[line][row] = hn::Zero(tag);
  for (std::size_t i = 0; i < whole; i += lanes) {
    f32_vector keys[rows];
    for (std::size_t row = 0; row < rows; ++row)
      keys[row] = Elements::load(k + row * head_dim + i);
    for (std::size_t line = 0; line < lines; ++line) {
      const f32_vector query = hn::LoadU(tag, q + line * head_dim + i);
      for (std::size_t row = 0; row < rows; ++row)
        acc[line][row] = hn::MulAdd(keys[row], query, acc[line][row]);
    }
  }
  for (std::size_t line = 0; line < lines; ++line) {
    float* const own = out + line * out_stride;
    if constexpr (rows == 4)
      store_sums(acc[line][0], acc[line][1], acc[line][2], acc[line][3], own);
    else
      for (std::size_t row = 0; row < rows; ++row)
        own[row] = hn::GetLane(hn::SumOfLanes(tag, acc[line][row]));
    for (std::size_t row = 0; row < rows; ++row)
      for (std::size_t i = whole; i < head_dim; ++i)
        own[row] += Elements::widen(k[row * head_dim + i]) * q[line * head_dim + i];
  }
}

template <class Elements, std::size_t lines>
HWY_INLINE void row_products(const typename Elements::storage* k, std::size_t rows, std::size_t head_dim,
                             const float* q, float* out, std::size_t out_stride) {
  std::size_t row = 0;
  for (; row + 4 <= rows; row += 4)
    products_of_rows<Elements, lines, 4>(k + row * head_dim, head_dim, q, out + row, out_stride);
  for (; row < rows; ++row)
    products_of_rows<Elements, lines, 1>(k + row * head_dim, head_dim, q, out + row, out_stride);
}

template <class Elements>
void products_of_group(const std::byte* keys, std::size_t rows, std::size_t head_dim, const float* q,
                       std::size_t group, float* out, std::size_t out_stride) {
  const auto* k = reinterpret_cast<const typename Elements::storage*>(keys);
  std::size_t line = 0;
  const auto pass = [&]<std::size_t wide>() HWY_ATTR {
    for (; line + wide <= group; line += wide)
      row_products<Elements, wide>(k, rows, head_dim, q + line * head_dim, out + line * out_stride,
                                   out_stride);
  };
  pass.template operator()<4>();
  pass.template operator()<1>();
}

void run_products(dtype type, const std::byte* keys, std::size_t rows, std::size_t head_dim, const float* q,
                  std::size_t group, float* out, std::size_t out_stride) {
  switch (type) {
    case dtype::bf16:
      return products_of_group<bf16_elements>(keys, rows, head_dim, q, group, out, out_stride);
    case dtype::f16:
      return products_of_group<f16_elements>(keys, rows, head_dim, q, group, out, out_stride);
    default:
      return products_of_group<f32_elements>(keys, rows, head_dim, q, group, out, out_stride);
  }
}

// In place: weights from products, where they are wanted; returns ln of the sum of exponentials.
float normalise(float* values, std::size_t count, float scale, bool wanted) {
  const f32_tag tag;
  constexpr float log2_e = 1.44269504F;
  float largest = values[0];
  f32_vector maxima = hn::Set(tag, largest);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    maxima = hn::Max(maxima, hn::LoadU(tag, values + i));
  for (; i < count; ++i)
    largest = std::max(largest, values[i]);
  largest = std::max(largest, hn::GetLane(hn::MaxOfLanes(tag, maxima)));
  const f32_vector base = hn::Set(tag, largest);
  const f32_vector factor = hn::Set(tag, scale * log2_e);
  f32_vector sums = hn::Zero(tag);
  for (i = 0; i + lanes <= count; i += lanes) {
    const f32_vector power = exp2_of<false>(hn::Mul(hn::Sub(hn::LoadU(tag, values + i), base), factor));
    hn::StoreU(power, tag, values + i);
    sums = hn::Add(sums, power);
  }
  float sum = hn::GetLane(hn::SumOfLanes(tag, sums));
  for (; i < count; ++i)
    sum += values[i] = std::exp((values[i] - largest) * scale);
  const float share = 1.0F / sum;
  if (wanted)
    for (i = 0; i < count; ++i)
      values[i] *= share;
  return largest * scale + std::log(sum);
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(run_products);
HWY_EXPORT(normalise);

namespace {

// Short runs lie apart, so the CPU does not see by itself what comes next.
constexpr std::size_t runs_ahead = 2;
constexpr std::size_t most_bytes_ahead = 4096;

void fetch(const kv_run& run, std::size_t row_bytes) {
  const std::size_t bytes = std::min(run.rows * row_bytes, most_bytes_ahead);
  for (std::size_t at = 0; at < bytes; at += 64)
    __builtin_prefetch(run.k + at);
}

}  // namespace

void attention_weights(const attention_shape& shape, std::span<const weighed_head> heads, thread_pool& pool) {
  const std::size_t group = shape.query_heads / shape.kv_heads;
  auto* const multiply = &HWY_DYNAMIC_DISPATCH(run_products);
  auto* const normal = &HWY_DYNAMIC_DISPATCH(normalise);
  pool.parallel_for(heads.size(), [&](std::size_t index, unsigned worker) {
    const weighed_head& head = heads[index];
    std::size_t rows = 0;
    for (const kv_run& run : head.runs)
      rows += run.rows;
    if (rows == 0) {
      if (head.log_sums != nullptr)
        std::fill_n(head.log_sums, group, -std::numeric_limits<float>::infinity());
      return;
    }
    float* weights = head.weights;
    if (weights == nullptr)
      weights = reinterpret_cast<float*>(pool.scratch(worker).reserve(group * rows * sizeof(float)).data());
    std::size_t first = 0;
    const std::size_t row_bytes = shape.head_dim * size_bytes(shape.kv_dtype);
    for (std::size_t i = 0; i < head.runs.size(); ++i) {
      const kv_run& run = head.runs[i];
      if (i + runs_ahead < head.runs.size()) fetch(head.runs[i + runs_ahead], row_bytes);
      multiply(shape.kv_dtype, run.k, run.rows, shape.head_dim, head.q, group, weights + first, rows);
      first += run.rows;
    }
    for (std::size_t g = 0; g < group; ++g) {
      const float log_sum = normal(weights + g * rows, rows, shape.scale, head.weights != nullptr);
      if (head.log_sums != nullptr) head.log_sums[g] = log_sum;
    }
  });
}

}  // namespace weft::kernels
#endif
