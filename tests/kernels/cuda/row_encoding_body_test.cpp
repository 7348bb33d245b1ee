// The threads that encode rows, one after the other, against the CPU's kernel: byte for byte.
#include "cuda/row_encoding_body.hpp"

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/row_codec.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"

#include <algorithm>
#include <cmath>

namespace weft::kernels::cuda {
namespace {

struct item_like_device {
  const std::byte* rows;
  std::size_t row_stride;
  const std::uint16_t* indices;
  std::uint32_t count;
  row_codec coding;
  std::byte* codes;
  std::uint16_t* scales;
};

// Rows of all magnitudes; some of zeros, of equal extremes of both signs, or with what is not finite.
std::vector<float> rows_of_all_kinds(testing::random_source& random, std::uint32_t rows,
                                     std::uint32_t stride) {
  std::vector<float> values;
  for (std::uint32_t row = 0; row < rows; ++row) {
    const int exponent = static_cast<int>(random.between(0, 250)) - 140;
    auto own = random.values(stride);
    for (float& value : own) {
      if (row % 7 == 1) value = random.coin() ? 1.0F : -1.0F;
      value = row % 7 == 2 ? 0.0F : std::ldexp(value, row % 2 == 0 ? 0 : exponent);
    }
    if (row % 7 == 3) own[random.between(0, stride - 1)] = NAN;
    if (row % 7 == 4) own[random.between(0, stride - 1)] = -INFINITY;
    values.insert(values.end(), own.begin(), own.end());
  }
  return values;
}

template <class Elements>
void check(testing::random_source& random, row_codec coding, std::uint32_t head_dim, std::uint32_t stride) {
  CAPTURE(name_of(coding));
  CAPTURE(head_dim);
  const std::uint32_t rows = random.between(1, 60);
  const auto values = rows_of_all_kinds(random, rows, stride);
  const testing::stored_values stored(Elements::type, values);
  std::vector<std::uint16_t> indices(random.between(1, 40));
  for (auto& index : indices)
    index = static_cast<std::uint16_t>(random.between(0, rows - 1));
  const auto compare = [&](const std::uint16_t* chosen, std::uint32_t count) {
    std::vector<std::byte> codes(count * code_bytes(coding, Elements::type, head_dim)), expected = codes;
    std::vector<std::uint16_t> scales(count * scales_per_row(coding, head_dim)), expected_scales = scales;
    if (chosen != nullptr)
      encode_rows(coding, Elements::type, stored.bytes.data(), stride, indices, head_dim, expected.data(),
                  expected_scales.data());
    else
      encode_rows(coding, Elements::type, stored.bytes.data(), stride, std::size_t{count}, head_dim,
                  expected.data(), expected_scales.data());
    const item_like_device item{stored.bytes.data(), stride,       chosen, count, coding,
                                codes.data(),        scales.data()};
    for (std::uint32_t row = 0; row < count; ++row)
      for (std::uint32_t scale = 0; scale < scales_of_row(coding, head_dim); ++scale)
        encode_scale<Elements>(item, row, scale, head_dim);
    REQUIRE(scales == expected_scales);
    REQUIRE(codes == expected);
  };
  compare(nullptr, rows);
  compare(indices.data(), static_cast<std::uint32_t>(indices.size()));
}

TEST_CASE("encoded rows are the CPU's, byte for byte, whatever is in them") {
  testing::random_source random(21);
  for (const auto coding : {row_codec::int8, row_codec::int4})
    for (const std::uint32_t head_dim : {1U, 2U, 31U, 32U, 33U, 64U, 95U, 128U, 200U})
      for (int round = 0; round < 4; ++round) {
        check<bf16_elements>(random, coding, head_dim, head_dim);
        check<f16_elements>(random, coding, head_dim, head_dim + 3);
        check<f32_elements>(random, coding, head_dim, 2 * head_dim);
      }
}

}  // namespace
}  // namespace weft::kernels::cuda
