#include <weft/kernels/linear.hpp>
#include <weft/kernels/swiglu.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/linear.hpp>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace weft::kernels {
namespace {

struct problem {
  std::uint32_t rows, inputs, outputs;
  dtype type;
  products allowed;
  bool with_bias;
};

problem random_problem(testing::random_source& random) {
  return {random.between(1, 40),
          random.between(1, 700),
          random.between(1, 200),
          testing::all_dtypes[random.between(0, 2)],
          random.coin() ? products::bf16 : products::f32,
          random.coin()};
}

struct filled_problem {
  filled_problem(const problem& p, testing::random_source& random)
      : x(random.values(std::size_t{p.rows} * p.inputs)),
        weights(p.type, random.values(std::size_t{p.outputs} * p.inputs)),
        bias(p.with_bias ? random.values(p.outputs) : std::vector<float>{}) {}

  std::vector<float> x;
  testing::stored_values weights;
  std::vector<float> bias;
};

// Sums of n products, each within the operands' rounding.
double tolerance(const problem& p) {
  const bool narrow = dense_operand_dtype(p.allowed, p.type) == dtype::bf16;
  return std::sqrt(static_cast<double>(p.inputs)) * (narrow ? 0.02 : 1e-5);
}

TEST_CASE("products equal their definition on odd shapes") {
  testing::on_every_target([] {
    thread_pool pool(3);
    for (std::uint32_t seed = 0; seed < 30; ++seed) {
      CAPTURE(seed);
      testing::random_source random(seed);
      const problem p = random_problem(random);
      const filled_problem data(p, random);
      const std::uint32_t upper = random.between(0, p.outputs);
      const weight_part parts[] = {
          {data.weights.bytes.data(), upper},
          {data.weights.bytes.data() + std::size_t{upper} * p.inputs * size_bytes(p.type),
           p.outputs - upper}};
      const linear matrix(parts, p.type, p.inputs, p.allowed, pool, data.bias);
      linear_input input;
      input.pack(data.x.data(), p.rows, p.inputs, p.inputs, matrix.input_dtype(), pool);

      const std::size_t stride = p.outputs + 3;
      std::vector<float> y(p.rows * stride, 0.5F);
      const bool add = random.coin();
      matrix.apply(input, y.data(), stride, pool, add ? write_mode::add : write_mode::overwrite);

      double worst = 0;
      for (std::size_t row = 0; row < p.rows; ++row) {
        for (std::size_t output = 0; output < p.outputs; ++output) {
          const double expected =
              reference::dot(data.x.data() + row * p.inputs,
                             data.weights.values_of_bytes.data() + output * p.inputs, p.inputs) +
              (p.with_bias ? data.bias[output] : 0.0F) + (add ? 0.5 : 0.0);
          worst = std::max(worst, std::fabs(y[row * stride + output] - expected));
        }
        for (std::size_t beyond = p.outputs; beyond < stride; ++beyond) {
          REQUIRE(y[row * stride + beyond] == 0.5F);
        }
      }
      CHECK(worst <= tolerance(p));
    }
  });
}

TEST_CASE("a row's result is the same bits whatever the other rows and the threads are") {
  testing::on_every_target([] {
    for (const dtype type : testing::all_dtypes) {
      for (const products allowed : {products::automatic, products::f32, products::bf16}) {
        testing::random_source random(7);
        const problem p{130, 1111, 150, type, allowed, true};
        const filled_problem data(p, random);
        const weight_part part{data.weights.bytes.data(), p.outputs};
        thread_pool many(4);
        thread_pool one(1);
        const linear matrix({&part, 1}, type, p.inputs, allowed, many, data.bias);
        linear_input input;
        input.pack(data.x.data(), p.rows, p.inputs, p.inputs, matrix.input_dtype(), many);
        std::vector<float> together(std::size_t{p.rows} * p.outputs);
        matrix.apply(input, together.data(), p.outputs, many);
        for (const std::uint32_t count : {1U, 64U, 77U}) {
          std::vector<float> first(together.size(), -3.0F);
          matrix.apply_first(count, input, first.data(), p.outputs, many);
          for (std::size_t i = 0; i < first.size(); ++i)
            REQUIRE(first[i] == (i % p.outputs < count ? together[i] : -3.0F));
        }
        for (const std::size_t row : {0UL, 5UL, 64UL, 129UL}) {
          input.pack(data.x.data() + row * p.inputs, 1, p.inputs, p.inputs, matrix.input_dtype(), one);
          std::vector<float> alone(p.outputs);
          matrix.apply(input, alone.data(), p.outputs, one);
          for (std::size_t output = 0; output < p.outputs; ++output) {
            REQUIRE(alone[output] == together[row * p.outputs + output]);
          }
        }
      }
    }
  });
}

TEST_CASE("packing SwiGLU at once gives the bytes of packing its result") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (const dtype type : {dtype::f32, dtype::bf16}) {
      testing::random_source random(2);
      const std::uint32_t rows = 5;
      const std::uint32_t inputs = 403;
      const std::vector<float> in = random.values(std::size_t{2} * rows * inputs);
      std::vector<float> gated(std::size_t{rows} * inputs);
      swiglu(in.data(), in.data() + inputs, 2 * inputs, gated.data(), inputs, rows, inputs, pool);
      linear_input apart;
      apart.pack(gated.data(), rows, inputs, inputs, type, pool);
      linear_input at_once;
      at_once.pack_swiglu(in.data(), in.data() + inputs, rows, inputs, 2 * inputs, type, pool);
      REQUIRE(at_once.row_stride_bytes() == apart.row_stride_bytes());
      const std::size_t used = (inputs + 1) * size_bytes(type);
      for (std::size_t row = 0; row < rows; ++row) {
        const std::size_t at = row * apart.row_stride_bytes();
        CHECK(std::equal(apart.data() + at, apart.data() + at + used, at_once.data() + at));
      }
    }
  });
}

TEST_CASE("operands are narrow where the CPU has products of them and they were not asked to be wide") {
  const dtype narrow = native_bf16_products() ? dtype::bf16 : dtype::f32;
  CHECK(operand_dtype(products::automatic, dtype::bf16) == narrow);
  CHECK(dense_operand_dtype(products::bf16, dtype::bf16) == narrow);
  for (const dtype stored : {dtype::f32, dtype::f16})
    CHECK(dense_operand_dtype(products::bf16, stored) == dtype::f32);
  for (const auto operand : {operand_dtype, dense_operand_dtype})
    CHECK(operand(products::f32, dtype::bf16) == dtype::f32);
}

TEST_CASE("weights are held once") {
  thread_pool pool(1);
  const std::vector<std::byte> weights(std::size_t{2048} * 512 * 2);
  const weight_part part{weights.data(), 2048};
  const linear matrix({&part, 1}, dtype::bf16, 512, products::automatic, pool);
  CHECK(matrix.allocated_bytes() == weights.size());
}

TEST_CASE("input packed for another matrix is refused") {
  thread_pool pool(1);
  const std::vector<std::byte> weights(4 * 6 * 4);
  const weight_part part{weights.data(), 4};
  const linear matrix({&part, 1}, dtype::f32, 6, products::f32, pool);
  const std::vector<float> x(7);
  linear_input input;
  input.pack(x.data(), 1, 7, 7, dtype::f32, pool);
  std::vector<float> y(4);
  CHECK_THROWS_AS(matrix.apply(input, y.data(), 4, pool), std::invalid_argument);
  CHECK_THROWS_AS(linear({&part, 1}, dtype::f32, 6, products::f32, pool,
                         y.data() == nullptr ? std::span<const float>{} : std::span<const float>(y).first(3)),
                  std::invalid_argument);
}

}  // namespace
}  // namespace weft::kernels
