// What warps and threads do to activations, against the CPU's kernels.
#include "cuda/activations_body.hpp"

#include <weft/kernels/convert.hpp>
#include <weft/kernels/rms_norm.hpp>
#include <weft/kernels/rope.hpp>
#include <weft/kernels/swiglu.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "reference/host_warp.hpp"

#include <cmath>
#include <cstring>

namespace weft::kernels::cuda {
namespace {

using testing::random_source;

float distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= largest)) largest = std::abs(a[i] - b[i]);
  return largest;
}

// A vector by `warps` warps, as a thread block does it.
void norm_vectors(const norm_work& work, std::uint32_t warps) {
  const reference::host_warp warp;
  const std::uint32_t threads = warps * warp_lanes;
  for (std::size_t vector = 0; vector < std::size_t{work.rows} * work.groups; ++vector) {
    const float* const x = norm_input(work, vector);
    float total = 0;
    for (std::uint32_t w = 0; w < warps; ++w)
      total += sum_of_squares(warp, x, work.columns, w * warp_lanes, threads)[w % warp_lanes];
    const float factor = norm_factor(total, work.columns, work.epsilon);
    for (std::uint32_t thread = 0; thread < threads; ++thread)
      write_normed<f32_elements>(work, x, factor, norm_output<f32_elements>(work, vector), thread, threads);
  }
}

std::byte* bytes_of(std::vector<float>& values) {
  return reinterpret_cast<std::byte*>(values.data());
}

}  // namespace

TEST_CASE("norms of rows and of heads are the CPU's") {
  thread_pool pool(1);
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    random_source random(seed);
    const std::uint32_t rows = random.between(1, 5);
    const std::uint32_t groups = random.between(1, 4);
    const std::uint32_t columns = random.between(1, 600);
    const std::size_t stride = std::size_t{groups} * columns + random.between(0, 9);
    auto x = random.values(rows * stride);
    const auto weight = random.values(columns);
    auto expected = x;
    rms_norm(x.data(), stride, expected.data(), stride, rows, groups, columns, weight.data(), 1e-3F, pool);
    norm_vectors({.x = x.data(),
                  .x_stride = stride,
                  .out = bytes_of(x),
                  .out_stride = stride,
                  .rows = rows,
                  .groups = groups,
                  .columns = columns,
                  .weight = weight.data(),
                  .epsilon = 1e-3F},
                 random.between(1, 8));
    CHECK(distance(x, expected) < 1e-4F);
  }
}

TEST_CASE("gates, biases, rotations and moves are the CPU's") {
  thread_pool pool(1);
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    random_source random(seed);
    const std::uint32_t rows = random.between(1, 7);
    const std::uint32_t columns = random.between(1, 70);

    const auto gate_up = random.values(std::size_t{rows} * 2 * columns, 3.0F);
    std::vector<float> gated(std::size_t{rows} * columns), expected(gated.size());
    swiglu(gate_up.data(), gate_up.data() + columns, std::size_t{2} * columns, expected.data(), columns, rows,
           columns, pool);
    const swiglu_work gates{.gate_up = gate_up.data(), .out = bytes_of(gated), .columns = columns};
    for (std::uint32_t row = 0; row < rows; ++row)
      for (std::uint32_t column = 0; column < columns; ++column)
        swiglu_value<f32_elements>(gates, row, column);
    CHECK(distance(gated, expected) < 1e-4F);

    const auto bias = random.values(columns);
    const std::size_t stride = columns + random.between(0, 3);
    auto biased = random.values(rows * stride);
    const auto before = biased;
    const bias_work biases{.x = biased.data(), .x_stride = stride, .bias = bias.data()};
    for (std::uint32_t row = 0; row < rows; ++row)
      for (std::uint32_t column = 0; column < columns; ++column)
        add_bias_to(biases, row, column);
    for (std::size_t i = 0; i < before.size(); ++i)
      CHECK(biased[i] == (i % stride < columns ? before[i] + bias[i % stride] : before[i]));

    const std::uint32_t heads = random.between(1, 3);
    const std::uint32_t head_dim = 2 * random.between(1, 40);
    std::vector<std::int32_t> positions;
    for (std::uint32_t row = 0; row < rows; ++row)
      positions.push_back(static_cast<std::int32_t>(random.between(0, 1000)));
    rotation_table table;
    table.assign(rope_frequencies({}, head_dim), positions);
    const std::size_t x_stride = std::size_t{heads} * head_dim + 5;
    auto turned = random.values(rows * x_stride);
    auto wanted = turned;
    rotate(wanted.data(), x_stride, rows, heads, table, pool);
    const rotation_work turns{.x = turned.data(),
                              .x_stride = x_stride,
                              .rotations = table.cosines(0),
                              .rows = rows,
                              .heads = heads,
                              .head_dim = head_dim};
    for (std::uint32_t row = 0; row < rows; ++row)
      for (std::uint32_t pair = 0; pair < heads * head_dim / 2; ++pair)
        rotate_pair(turns, row, pair);
    CHECK(distance(turned, wanted) < 1e-5F);

    const std::uint32_t picked[] = {rows - 1, 0};
    std::vector<float> moved(2 * std::size_t{columns});
    const move_work moves{.from = before.data(),
                          .from_stride = stride,
                          .row = picked,
                          .to = moved.data(),
                          .to_stride = columns};
    for (std::uint32_t row = 0; row < 2; ++row)
      for (std::uint32_t column = 0; column < columns; ++column) {
        move_value(moves, row, column);
        CHECK(moved[row * columns + column] == before[picked[row] * stride + column]);
      }
  }
}

TEST_CASE("gelu is x times the normal distribution's share below x, and leaves what is between rows") {
  random_source random(5);
  constexpr std::uint32_t rows = 3, columns = 50;
  constexpr std::size_t stride = 53;
  auto x = random.values(rows * stride, 4.0F);
  x[0] = 0.0F;
  x[1] = -30.0F;
  x[2] = 30.0F;
  const auto before = x;
  const gelu_work work{.x = x.data(), .x_stride = stride};
  for (std::uint32_t row = 0; row < rows; ++row)
    for (std::uint32_t column = 0; column < columns; ++column)
      gelu_value(work, row, column);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double in{before[i]};
    const double expected = i % stride < columns ? in / 2 * (1 + std::erf(in / std::sqrt(2.0))) : in;
    CHECK(std::abs(x[i] - expected) <= 1e-6 * std::max(1.0, std::abs(in)));
  }
}

TEST_CASE("values are rounded as the CPU rounds them") {
  random_source random(3);
  const auto x = random.values(3 * 11);
  const auto check = [&]<class Elements>(Elements) {
    std::vector<std::byte> rounded(3 * 9 * size_bytes(Elements::type)), expected(rounded.size());
    const round_work work{.x = x.data(), .x_stride = 11, .out = rounded.data(), .columns = 9};
    for (std::uint32_t row = 0; row < 3; ++row) {
      from_f32(Elements::type, x.data() + row * 11, expected.data() + row * 9 * size_bytes(Elements::type),
               9);
      for (std::uint32_t column = 0; column < 9; ++column)
        round_value<Elements>(work, row, column);
    }
    CHECK(rounded == expected);
  };
  check(bf16_elements{});
  check(f16_elements{});
  check(f32_elements{});
}

}  // namespace weft::kernels::cuda
