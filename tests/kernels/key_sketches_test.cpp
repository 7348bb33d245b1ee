#include <weft/kernels/key_sketches.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/key_sketches.hpp>

#include <cmath>
#include <vector>

namespace weft::kernels {
namespace {

double product(const float* a, const float* b, std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i)
    sum += double{a[i]} * b[i];
  return sum;
}

TEST_CASE("estimated products equal their definition") {
  testing::on_every_target([] {
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      CAPTURE(seed);
      testing::random_source random(seed);
      const std::uint32_t channels = random.between(1, 130);
      const std::uint32_t rows = random.between(1, 70);
      const std::uint32_t lines = random.between(1, 19);
      key_sketches keys(channels, random.between(1, key_sketches::most_bits));
      const auto values = random.values(std::size_t{rows} * channels, 3.0F);
      if (seed % 4 != 0) keys.fit(values);
      keys.add(values);
      REQUIRE(keys.rows() == rows);
      const auto queries = random.values(std::size_t{lines} * channels, 2.0F);
      const std::size_t stride = (rows + 15) / 16 * 16 + random.between(0, 5);
      std::vector<float> out(lines * stride, -7.0F);
      sketch_products(keys, queries.data(), lines, out.data(), stride);
      for (std::uint32_t line = 0; line < lines; ++line)
        for (std::uint32_t row = 0; row < rows; ++row)
          REQUIRE(out[line * stride + row] ==
                  doctest::Approx(reference::sketch_product(keys, row, queries.data() + line * channels))
                      .epsilon(1e-5)
                      .scale(channels));
    }
  });
}

TEST_CASE("more bits estimate better, and a query that points to a row sees no bias") {
  constexpr std::uint32_t channels = 64;
  constexpr std::uint32_t rows = 200;
  testing::random_source random(5);
  auto values = random.values(rows * channels, 1.0F);
  // Channels of different middles and spreads, as rotated keys have.
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = values[i] * (i % channels < 8 ? 5.0F : 0.5F) + (i % channels == 3 ? 20.0F : 0.0F);
  const auto query = random.values(channels, 1.0F);
  double before = 1e9;
  for (std::uint32_t bits = 1; bits <= key_sketches::most_bits; ++bits) {
    key_sketches keys(channels, bits);
    keys.fit(values);
    keys.add(values);
    std::vector<float> out(rows + 15);
    sketch_products(keys, query.data(), 1, out.data(), out.size());
    double error = 0;
    for (std::uint32_t row = 0; row < rows; ++row)
      error += std::pow(out[row] - product(query.data(), values.data() + row * channels, channels), 2.0);
    CHECK(error < before * 0.6);
    before = error;
    // In units of the channels' spreads, a row's own direction.
    std::vector<float> own(channels);
    for (std::uint32_t c = 0; c < channels; ++c)
      own[c] = (values[c] - keys.middles()[c]) / (keys.spreads()[c] * keys.spreads()[c]);
    sketch_products(keys, own.data(), 1, out.data(), out.size());
    CHECK(out[0] == doctest::Approx(product(own.data(), values.data(), channels)).epsilon(0.01));
  }
}

TEST_CASE("rows without any distance, and channels that never change") {
  key_sketches keys(5, 2);
  const std::vector<float> same(20, 3.0F);
  keys.fit(same);
  keys.add(same);
  const std::vector<float> query{1, 2, 3, 4, 5};
  std::vector<float> out(16);
  sketch_products(keys, query.data(), 1, out.data(), 16);
  for (int row = 0; row < 4; ++row)
    CHECK(out[static_cast<std::size_t>(row)] == doctest::Approx(45));
  CHECK_THROWS(key_sketches(5, 0));
  CHECK_THROWS(key_sketches(5, 5));
  CHECK_THROWS(key_sketches(0, 1));
}

}  // namespace
}  // namespace weft::kernels
