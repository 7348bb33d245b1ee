#include <weft/kernels/rms_norm.hpp>

#include "cpu/row_tasks.hpp"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rms_norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

float sum_of_squares(const float* x, std::size_t columns) {
  const f32_tag tag;
  f32_vector sums[4] = {hn::Zero(tag), hn::Zero(tag), hn::Zero(tag), hn::Zero(tag)};
  std::size_t i = 0;
  for (; i + 4 * lanes <= columns; i += 4 * lanes) {
    for (std::size_t part = 0; part < 4; ++part) {
      const f32_vector v = hn::LoadU(tag, x + i + part * lanes);
      sums[part] = hn::MulAdd(v, v, sums[part]);
    }
  }
  for (; i + lanes <= columns; i += lanes) {
    const f32_vector v = hn::LoadU(tag, x + i);
    sums[0] = hn::MulAdd(v, v, sums[0]);
  }
  const f32_vector all = hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  float sum = hn::GetLane(hn::SumOfLanes(tag, all));
  for (; i < columns; ++i)
    sum += x[i] * x[i];
  return sum;
}

void normalise_vector(const float* x, float* out, std::size_t columns, const float* weight, float epsilon) {
  const f32_tag tag;
  const float mean = sum_of_squares(x, columns) / static_cast<float>(columns);
  const float factor = 1.0F / std::sqrt(mean + epsilon);
  const f32_vector factors = hn::Set(tag, factor);
  std::size_t i = 0;
  for (; i + lanes <= columns; i += lanes) {
    const f32_vector scaled = hn::Mul(hn::LoadU(tag, x + i), factors);
    hn::StoreU(hn::Mul(scaled, hn::LoadU(tag, weight + i)), tag, out + i);
  }
  for (; i < columns; ++i)
    out[i] = x[i] * factor * weight[i];
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(normalise_vector);

void rms_norm(const float* x, std::size_t x_stride, float* out, std::size_t out_stride, std::uint32_t rows,
              std::uint32_t groups, std::uint32_t columns, const float* weight, float epsilon,
              thread_pool& pool) {
  auto* const normalise = &HWY_DYNAMIC_DISPATCH(normalise_vector);
  const std::size_t row_bytes = std::size_t{groups} * columns * sizeof(float);
  parallel_for_rows(pool, rows, row_bytes, [&](std::size_t row, unsigned) {
    for (std::size_t group = 0; group < groups; ++group) {
      normalise(x + row * x_stride + group * columns, out + row * out_stride + group * columns, columns,
                weight, epsilon);
    }
  });
}

}  // namespace weft::kernels
#endif
