#include <weft/kernels/rough_linear.hpp>

#include "cpu/narrow_floats.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rough_linear.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/dot_bytes-inl.hpp"

#ifndef WEFT_KERNELS_ROUGH_LINEAR_ONCE
#define WEFT_KERNELS_ROUGH_LINEAR_ONCE
namespace weft::kernels {

constexpr std::size_t rough_tile_outputs = 16;
constexpr std::size_t rough_group_inputs = 64;
constexpr std::size_t rough_group_bytes = rough_tile_outputs * rough_group_inputs / 2;
constexpr std::int32_t rough_zero = 8;  // the code of 0

// Inputs as integers, by group.
struct rough_input {
  const std::int8_t* bytes;       // [group][64]
  const float* scales;            // [group]
  const std::int32_t* zero_sums;  // [group]: what zeros' codes add, negative
  std::size_t groups;
};

}  // namespace weft::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

bool rough_products_are_fast() {
#if WEFT_KERNELS_NATIVE_BF16
  return multiplies_bytes();
#else
  return false;
#endif
}

#if WEFT_KERNELS_NATIVE_BF16
void multiply_rough_bytes(const std::uint8_t* codes, const std::uint16_t* scales, const rough_input& x,
                          float* out) {
  constexpr std::size_t bytes_ahead = 4096;
  const __m512i low_half = _mm512_set1_epi8(15);
  __m512 sums = _mm512_setzero_ps();
  for (std::size_t group = 0; group < x.groups; ++group) {
    const auto* const inputs = reinterpret_cast<const std::int32_t*>(x.bytes + group * rough_group_inputs);
    __m512i even = _mm512_set1_epi32(x.zero_sums[group]);
    __m512i odd = _mm512_setzero_si512();
    for (std::size_t part = 0; part < 8; ++part, codes += 64) {
      __builtin_prefetch(codes + bytes_ahead);
      const __m512i both = _mm512_load_si512(codes);
      even = dot_bytes(even, _mm512_and_si512(both, low_half), inputs + 2 * part);
      odd = dot_bytes(odd, _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half), inputs + 2 * part + 1);
    }
    const f32_vector scale = hn::Mul(bf16_elements::load(scales + group * rough_tile_outputs),
                                     hn::Set(f32_tag(), x.scales[group]));
    sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)), scale.raw, sums);
  }
  _mm512_storeu_ps(out, sums);
}
#endif

void multiply_rough(const std::uint8_t* codes, const std::uint16_t* scales, const rough_input& x,
                    float* out) {
#if WEFT_KERNELS_NATIVE_BF16
  if (multiplies_bytes()) return multiply_rough_bytes(codes, scales, x, out);
#endif
  std::fill_n(out, rough_tile_outputs, 0.0F);
  for (std::size_t group = 0; group < x.groups; ++group)
    for (std::size_t output = 0; output < rough_tile_outputs; ++output) {
      std::int32_t sum = x.zero_sums[group];
      for (std::size_t input = 0; input < rough_group_inputs; ++input) {
        const std::uint8_t both = codes[group * rough_group_bytes + input / 8 * 64 + output * 4 + input % 4];
        sum += (input % 8 < 4 ? both & 15 : both >> 4) * x.bytes[group * rough_group_inputs + input];
      }
      const float scale = f32_from_bf16(scales[group * rough_tile_outputs + output]) * x.scales[group];
      out[output] = std::fma(static_cast<float>(sum), scale, out[output]);
    }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(rough_products_are_fast);
HWY_EXPORT(multiply_rough);

namespace {

constexpr std::size_t tiles_of_task = 4;

// Inputs as integers, kept from call to call.
struct packed_inputs {
  std::vector<std::int8_t> bytes;
  std::vector<float> scales;
  std::vector<std::int32_t> zero_sums;

  void pack(const float* x, std::size_t inputs, std::size_t groups) {
    bytes.assign(groups * rough_group_inputs, 0);
    scales.assign(groups, 0.0F);
    zero_sums.assign(groups, 0);
    for (std::size_t first = 0; first < inputs; first += rough_group_inputs) {
      const std::size_t group = first / rough_group_inputs;
      const std::size_t last = std::min(first + rough_group_inputs, inputs);
      float largest = 0;
      for (std::size_t i = first; i < last; ++i)
        largest = std::max(largest, std::abs(x[i]));
      scales[group] = largest / 127;
      if (!(scales[group] > 0)) continue;
      for (std::size_t i = first; i < last; ++i) {
        bytes[i] = static_cast<std::int8_t>(std::nearbyint(x[i] / scales[group]));
        zero_sums[group] -= rough_zero * bytes[i];
      }
    }
  }
};

}  // namespace

bool rough_linear::is_fast() {
  return HWY_DYNAMIC_DISPATCH(rough_products_are_fast)();
}

rough_linear::rough_linear(const linear& exact, std::uint32_t outputs, thread_pool& pool)
    : outputs_(outputs),
      inputs_(exact.inputs()),
      groups_((std::size_t{exact.inputs()} + rough_group_inputs - 1) / rough_group_inputs) {
  if (outputs == 0 || outputs > exact.outputs())
    throw std::invalid_argument("rough_linear: no outputs, or more than there are");
  const std::size_t tiles = (std::size_t{outputs} + rough_tile_outputs - 1) / rough_tile_outputs;
  codes_ = aligned_buffer(tiles * groups_ * rough_group_bytes);
  std::memset(codes_.data(), 0, codes_.size_bytes());
  scales_.assign(tiles * groups_ * rough_tile_outputs, 0);
  if (!exact.bias().empty()) bias_.assign(exact.bias().begin(), exact.bias().begin() + outputs);
  pool.parallel_for(tiles, [&](std::size_t tile, unsigned worker) {
    auto* const row = reinterpret_cast<float*>(pool.scratch(worker).reserve(inputs_ * sizeof(float)).data());
    const auto first = static_cast<std::uint32_t>(tile * rough_tile_outputs);
    for (std::uint32_t output = first; output < std::min<std::uint32_t>(first + rough_tile_outputs, outputs_);
         ++output) {
      exact.weights_of(output, row);
      pack_output(output, row);
    }
  });
}

void rough_linear::pack_output(std::uint32_t output, const float* weights) {
  const std::size_t tile = output / rough_tile_outputs;
  const std::size_t column = output % rough_tile_outputs;
  for (std::size_t group = 0; group < groups_; ++group) {
    const std::size_t first = group * rough_group_inputs;
    const std::size_t count = std::min(rough_group_inputs, inputs_ - first);
    float largest = 0;
    for (std::size_t i = 0; i < count; ++i)
      largest = std::max(largest, std::abs(weights[first + i]));
    auto& narrow = scales_[(tile * groups_ + group) * rough_tile_outputs + column];
    narrow = bf16_from_f32(largest / 7);
    const float scale = f32_from_bf16(narrow);
    auto* const codes =
        reinterpret_cast<std::uint8_t*>(codes_.data()) + (tile * groups_ + group) * rough_group_bytes;
    for (std::size_t i = 0; i < rough_group_inputs; ++i) {
      const float steps = i < count && scale > 0 ? std::nearbyint(weights[first + i] / scale) : 0.0F;
      const auto code =
          static_cast<unsigned>(static_cast<std::int32_t>(std::clamp(steps, -7.0F, 7.0F)) + rough_zero);
      codes[i / 8 * 64 + column * 4 + i % 4] |= static_cast<std::uint8_t>(i % 8 < 4 ? code : code << 4U);
    }
  }
}

void rough_linear::apply(const float* x, float* y, thread_pool& pool) const {
  thread_local packed_inputs packed;
  packed.pack(x, inputs_, groups_);
  const rough_input input{packed.bytes.data(), packed.scales.data(), packed.zero_sums.data(), groups_};
  const std::size_t tiles = (std::size_t{outputs_} + rough_tile_outputs - 1) / rough_tile_outputs;
  auto* const multiply = &HWY_DYNAMIC_DISPATCH(multiply_rough);
  pool.parallel_for((tiles + tiles_of_task - 1) / tiles_of_task, [&](std::size_t task, unsigned) {
    for (std::size_t tile = task * tiles_of_task; tile < std::min(tiles, (task + 1) * tiles_of_task);
         ++tile) {
      float sums[rough_tile_outputs];
      multiply(reinterpret_cast<const std::uint8_t*>(codes_.data()) + tile * groups_ * rough_group_bytes,
               scales_.data() + tile * groups_ * rough_tile_outputs, input, sums);
      const std::size_t first = tile * rough_tile_outputs;
      for (std::size_t i = 0; i < std::min<std::size_t>(rough_tile_outputs, outputs_ - first); ++i)
        y[first + i] = bias_.empty() ? sums[i] : sums[i] + bias_[first + i];
    }
  });
}

}  // namespace weft::kernels
#endif
