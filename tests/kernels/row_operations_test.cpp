#include <weft/kernels/rms_norm.hpp>
#include <weft/kernels/swiglu.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/rows.hpp>

#include <cmath>
#include <vector>

namespace weft::kernels {
namespace {

TEST_CASE("RMSNorm equals its definition, by row and by head, in place too") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 0; seed < 30; ++seed) {
      CAPTURE(seed);
      testing::random_source random(seed);
      const std::uint32_t rows = random.between(1, 9);
      const std::uint32_t groups = random.between(1, 4);
      const std::uint32_t columns = random.between(1, 300);
      const std::size_t stride = std::size_t{groups} * columns + random.between(0, 5);
      const std::vector<float> x = random.values(rows * stride, 3.0F);
      const std::vector<float> weight = random.values(columns);
      std::vector<float> out = x;
      rms_norm(out.data(), stride, out.data(), stride, rows, groups, columns, weight.data(), 1e-5F, pool);
      double worst = 0;
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t group = 0; group < groups; ++group) {
          const std::size_t first = row * stride + group * columns;
          const auto expected = reference::rms_norm(x.data() + first, weight.data(), columns, 1e-5F);
          for (std::size_t i = 0; i < columns; ++i) {
            worst = std::max(worst, std::fabs(out[first + i] - expected[i]) / (1.0 + std::fabs(expected[i])));
          }
        }
      }
      CHECK(worst < 2e-6);
    }
  });
}

TEST_CASE("SwiGLU equals its definition, also far from zero") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (const std::uint32_t columns : {1U, 15U, 16U, 17U, 400U, 4099U}) {
      CAPTURE(columns);
      testing::random_source random(columns);
      const std::uint32_t rows = 3;
      const std::size_t in_stride = 2 * columns;
      std::vector<float> in = random.values(rows * in_stride, 20.0F);
      in[0] = -300.0F;
      const float* gate = in.data();
      const float* up = in.data() + columns;
      std::vector<float> out(std::size_t{rows} * columns);
      swiglu(gate, up, in_stride, out.data(), columns, rows, columns, pool);
      double worst = 0;
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t i = 0; i < columns; ++i) {
          const double expected = reference::swiglu(gate[row * in_stride + i], up[row * in_stride + i]);
          const double error = std::fabs(out[row * columns + i] - expected);
          worst = std::max(worst, error / (1.0 + std::fabs(expected)));
        }
      }
      CHECK(worst < 2e-6);
    }
  });
}

}  // namespace
}  // namespace weft::kernels
