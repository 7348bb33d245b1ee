#include <weft/kernels/rope.hpp>

#include "cpu/row_tasks.hpp"

#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rope.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
using f64_tag = hn::CappedTag<double, 8>;
using f64_vector = hn::Vec<f64_tag>;

HWY_INLINE f64_vector polynomial(f64_vector x, const double (&coefficients)[6]) {
  const f64_tag tag;
  f64_vector sum = hn::Set(tag, coefficients[0]);
  for (int i = 1; i < 6; ++i)
    sum = hn::MulAdd(sum, x, hn::Set(tag, coefficients[i]));
  return sum;
}

// In double precision, so that the f32 results are right for the largest f32 angles that positions reach.
HWY_INLINE void cosine_and_sine(f64_vector angle, f64_vector& cosine, f64_vector& sine) {
  const f64_tag tag;
  const hn::RebindToSigned<f64_tag> integers;
  // Taylor coefficients in x^2 over [-pi/4, pi/4]: errors below 1e-13.
  constexpr double sine_terms[6] = {-1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1.0};
  constexpr double cosine_terms[6] = {-1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -1.0 / 2, 1.0};

  const f64_vector quarter = hn::Round(hn::Mul(angle, hn::Set(tag, 2.0 / std::numbers::pi)));
  f64_vector rest = hn::NegMulAdd(quarter, hn::Set(tag, 0x1.921FB54442D18p0), angle);
  rest = hn::NegMulAdd(quarter, hn::Set(tag, 0x1.1A62633145C07p-54), rest);
  const f64_vector square = hn::Mul(rest, rest);
  const f64_vector s = hn::Mul(rest, polynomial(square, sine_terms));
  const f64_vector c = polynomial(square, cosine_terms);

  // Adding 1.5 * 2^52 leaves the integer in the lowest bits.
  const auto bits = hn::BitCast(integers, hn::Add(quarter, hn::Set(tag, 0x1.8p52)));
  const auto one = hn::Set(integers, 1);
  const auto two = hn::Set(integers, 2);
  const auto swapped = hn::RebindMask(tag, hn::Eq(hn::And(bits, one), one));
  const auto sine_negative = hn::RebindMask(tag, hn::Eq(hn::And(bits, two), two));
  const auto cosine_negative = hn::RebindMask(tag, hn::Eq(hn::And(hn::Add(bits, one), two), two));
  const f64_vector sine_size = hn::IfThenElse(swapped, c, s);
  const f64_vector cosine_size = hn::IfThenElse(swapped, s, c);
  sine = hn::IfThenElse(sine_negative, hn::Neg(sine_size), sine_size);
  cosine = hn::IfThenElse(cosine_negative, hn::Neg(cosine_size), cosine_size);
}
#endif

// cosines and sines of f32(frequency * position).
void rotation_entry(const float* frequencies, std::size_t count, float position, float* cosines,
                    float* sines) {
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const f64_tag tag;
  const hn::Rebind<float, f64_tag> narrow;
  for (; i + hn::Lanes(tag) <= count; i += hn::Lanes(tag)) {
    const auto angle = hn::Mul(hn::LoadU(narrow, frequencies + i), hn::Set(narrow, position));
    f64_vector cosine;
    f64_vector sine;
    cosine_and_sine(hn::PromoteTo(tag, angle), cosine, sine);
    hn::StoreU(hn::DemoteTo(narrow, cosine), narrow, cosines + i);
    hn::StoreU(hn::DemoteTo(narrow, sine), narrow, sines + i);
  }
#endif
  for (; i < count; ++i) {
    const double angle = frequencies[i] * position;
    cosines[i] = static_cast<float>(std::cos(angle));
    sines[i] = static_cast<float>(std::sin(angle));
  }
}

// As Hugging Face does: two rounded products and a sum, so that engines agree bit for bit where they can.
void rotate_head(float* x, const float* cosines, const float* sines, std::size_t half) {
  const f32_tag tag;
  std::size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const f32_vector low = hn::LoadU(tag, x + i);
    const f32_vector high = hn::LoadU(tag, x + half + i);
    const f32_vector c = hn::LoadU(tag, cosines + i);
    const f32_vector s = hn::LoadU(tag, sines + i);
    hn::StoreU(hn::Sub(hn::Mul(low, c), hn::Mul(high, s)), tag, x + i);
    hn::StoreU(hn::Add(hn::Mul(high, c), hn::Mul(low, s)), tag, x + half + i);
  }
  for (; i < half; ++i) {
    const float low = x[i];
    const float high = x[half + i];
    x[i] = low * cosines[i] - high * sines[i];
    x[half + i] = high * cosines[i] + low * sines[i];
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(rotation_entry);
HWY_EXPORT(rotate_head);

namespace {

float llama3_frequency(float frequency, const rope_parameters& p) {
  const auto context = static_cast<float>(p.original_context_tokens);
  const auto factor = static_cast<float>(p.factor);
  const auto low = static_cast<float>(p.low_freq_factor);
  const auto high = static_cast<float>(p.high_freq_factor);
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
  if (wavelength < context / high) return frequency;
  if (wavelength > context / low) return frequency / factor;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1.0F - smooth) * frequency / factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_frequencies(const rope_parameters& parameters, std::uint32_t head_dim) {
  if (head_dim == 0 || head_dim % 2 != 0) {
    throw std::invalid_argument("rope_frequencies: head_dim must be even");
  }
  std::vector<float> frequencies(head_dim / 2);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    const auto power = static_cast<float>(std::pow(parameters.theta, static_cast<double>(exponent)));
    const float frequency = 1.0F / power;
    switch (parameters.scaling) {
      case rope_scaling::none:
        frequencies[i] = frequency;
        break;
      case rope_scaling::linear:
        frequencies[i] = frequency / static_cast<float>(parameters.factor);
        break;
      case rope_scaling::llama3:
        frequencies[i] = llama3_frequency(frequency, parameters);
        break;
    }
  }
  return frequencies;
}

void rotation_table::assign(std::span<const float> frequencies, std::span<const std::int32_t> positions) {
  positions_.assign(positions.begin(), positions.end());
  fill(frequencies);
}

void rotation_table::assign(std::span<const float> frequencies, std::int32_t start, std::uint32_t count) {
  positions_.resize(count);
  std::iota(positions_.begin(), positions_.end(), start);
  fill(frequencies);
}

void rotation_table::fill(std::span<const float> frequencies) {
  half_dim_ = static_cast<std::uint32_t>(frequencies.size());
  const std::size_t entry_values = 2 * frequencies.size();
  auto* const values =
      reinterpret_cast<float*>(memory_.reserve(positions_.size() * entry_values * sizeof(float)).data());
  auto* const entry = &HWY_DYNAMIC_DISPATCH(rotation_entry);
  for (std::size_t i = 0; i < positions_.size(); ++i) {
    float* const cosines = values + i * entry_values;
    entry(frequencies.data(), frequencies.size(), static_cast<float>(positions_[i]), cosines,
          cosines + frequencies.size());
  }
  values_ = values;
}

void rotate(float* x, std::size_t row_stride, std::uint32_t rows, std::uint32_t heads,
            const rotation_table& table, thread_pool& pool) {
  if (rows > table.size()) throw std::invalid_argument("rotate: more rows than entries of the table");
  auto* const rotate_one = &HWY_DYNAMIC_DISPATCH(rotate_head);
  const std::size_t half = table.head_dim() / 2;
  parallel_for_rows(pool, rows, 2 * sizeof(float) * heads * half, [&](std::size_t row, unsigned) {
    const auto entry = static_cast<std::uint32_t>(row);
    for (std::size_t head = 0; head < heads; ++head) {
      rotate_one(x + row * row_stride + head * 2 * half, table.cosines(entry), table.sines(entry), half);
    }
  });
}

}  // namespace weft::kernels
#endif
