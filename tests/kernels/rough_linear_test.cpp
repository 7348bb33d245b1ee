#include <weft/kernels/rough_linear.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/rough_linear.hpp>

#include <cmath>
#include <stdexcept>
#include <vector>

namespace weft::kernels {
namespace {

TEST_CASE("rough products equal their definition, bit for bit") {
  testing::on_every_target([] {
    thread_pool pool(3);
    for (std::uint32_t seed = 0; seed < 30; ++seed) {
      CAPTURE(seed);
      testing::random_source random(seed);
      const std::uint32_t inputs = random.between(1, 300);
      const std::uint32_t all_outputs = random.between(1, 150);
      const std::uint32_t outputs = random.between(1, all_outputs);
      const dtype type = testing::all_dtypes[seed % 3];
      auto values = random.values(std::size_t{all_outputs} * inputs);
      // An output of zeros, and one weight that dwarfs the others.
      if (seed % 5 == 0) std::fill_n(values.begin(), inputs, 0.0F);
      if (seed % 5 == 1) values[inputs / 2] = 300;
      const testing::stored_values weights(type, values);
      const auto bias = random.coin() ? random.values(all_outputs) : std::vector<float>{};
      auto x = random.values(inputs, 2.0F);
      if (seed % 4 == 0) std::fill_n(x.begin(), std::min(inputs, 64U), 0.0F);
      const weight_part part{weights.bytes.data(), all_outputs};
      const linear exact({&part, 1}, type, inputs, products::f32, pool, bias);
      const rough_linear rough(exact, outputs, pool);
      std::vector<float> y(outputs + 1, 77.0F);
      rough.apply(x.data(), y.data(), pool);
      for (std::uint32_t output = 0; output < outputs; ++output) {
        const std::span own(weights.values_of_bytes.data() + std::size_t{output} * inputs, inputs);
        const float product = reference::rough_product(own, x);
        REQUIRE(y[output] == (bias.empty() ? product : product + bias[output]));
      }
      REQUIRE(y[outputs] == 77.0F);
    }
  });
}

TEST_CASE("rough products are near the exact ones") {
  thread_pool pool(2);
  testing::random_source random(3);
  constexpr std::uint32_t inputs = 512;
  constexpr std::uint32_t outputs = 200;
  const testing::stored_values weights(dtype::bf16, random.values(std::size_t{outputs} * inputs));
  const auto x = random.values(inputs);
  const weight_part part{weights.bytes.data(), outputs};
  const linear exact({&part, 1}, dtype::bf16, inputs, products::f32, pool);
  std::vector<float> y(outputs);
  rough_linear(exact, outputs, pool).apply(x.data(), y.data(), pool);
  double error = 0;
  double size = 0;
  for (std::uint32_t output = 0; output < outputs; ++output) {
    double product = 0;
    for (std::uint32_t i = 0; i < inputs; ++i)
      product += double{weights.values_of_bytes[output * inputs + i]} * x[i];
    error += std::pow(y[output] - product, 2.0);
    size += product * product;
  }
  CHECK(error < 0.02 * size);
  CHECK_THROWS_AS(rough_linear(exact, 0, pool), std::invalid_argument);
  CHECK_THROWS_AS(rough_linear(exact, outputs + 1, pool), std::invalid_argument);
}

}  // namespace
}  // namespace weft::kernels
