// Norms, gates and rotations on a device, against the CPU's. Skipped, and said so, where there is none.
#include <weft/kernels/cuda/activations.hpp>
#include <weft/kernels/rms_norm.hpp>
#include <weft/kernels/rope.hpp>
#include <weft/kernels/swiglu.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "device_memory.hpp"

#include <cmath>

using namespace weft::kernels;
using namespace weft::kernels::testing;

namespace {

void check_near(shared_array<float>& found, const std::vector<float>& expected) {
  float largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (!(std::abs(found[i] - expected[i]) <= largest)) largest = std::abs(found[i] - expected[i]);
  CHECK(largest < 1e-4F);
}

}  // namespace

TEST_CASE("norms on the device are the CPU's") {
  if (!has_device()) return;
  thread_pool pool(1);
  for (const std::uint32_t columns : {64U, 512U, 513U, 4096U}) {
    CAPTURE(columns);
    random_source random(columns);
    constexpr std::uint32_t rows = 37;
    constexpr std::uint32_t groups = 3;
    const std::size_t stride = std::size_t{groups} * columns + 2;
    const auto values = random.values(rows * stride);
    const auto weight = random.values(columns);
    auto expected = values;
    rms_norm(values.data(), stride, expected.data(), stride, rows, groups, columns, weight.data(), 1e-5F,
             pool);
    shared_array<float> x{std::span(values)};
    shared_array<float> weights{std::span(weight)};
    const cuda::norm_work work{.x = x.data(),
                               .x_stride = stride,
                               .out = reinterpret_cast<std::byte*>(x.data()),
                               .out_stride = stride,
                               .rows = rows,
                               .groups = groups,
                               .columns = columns,
                               .weight = weights.data(),
                               .epsilon = 1e-5F};
    REQUIRE(cuda::norm_rows(work, nullptr) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    check_near(x, expected);
  }
}

TEST_CASE("gates and rotations on the device are the CPU's") {
  if (!has_device()) return;
  thread_pool pool(1);
  random_source random(1);
  constexpr std::uint32_t rows = 33;
  constexpr std::uint32_t columns = 700;
  const auto values = random.values(std::size_t{rows} * 2 * columns);
  std::vector<float> expected(std::size_t{rows} * columns);
  swiglu(values.data(), values.data() + columns, 2 * columns, expected.data(), columns, rows, columns, pool);
  shared_array<float> gates{std::span(values)};
  shared_array<float> gated(expected.size());
  const cuda::swiglu_work work{.gate_up = gates.data(),
                               .out = reinterpret_cast<std::byte*>(gated.data()),
                               .rows = rows,
                               .columns = columns};
  REQUIRE(cuda::swiglu_rows(work, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  check_near(gated, expected);

  auto curved = values;
  for (float& value : curved)
    value = static_cast<float>(double{value} / 2 * (1 + std::erf(double{value} / std::sqrt(2.0))));
  REQUIRE(cuda::gelu_rows({gates.data(), columns, 2 * rows, columns}, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  check_near(gates, curved);

  constexpr std::uint32_t head_dim = 128;
  rotation_table table;
  table.assign(rope_frequencies({}, head_dim), 500, rows);
  auto turned = random.values(std::size_t{rows} * 2 * head_dim);
  shared_array<float> x{std::span<const float>(turned)};
  shared_array<float> rotations{std::span(table.cosines(0), std::size_t{rows} * head_dim)};
  rotate(turned.data(), 2 * head_dim, rows, 2, table, pool);
  REQUIRE(cuda::rotate_rows({x.data(), 2 * head_dim, rotations.data(), rows, 2, head_dim}, nullptr) ==
          cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  check_near(x, turned);
}
