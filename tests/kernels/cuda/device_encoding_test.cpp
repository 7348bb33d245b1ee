// Rows encoded on a device, against the CPU's kernel. Skipped, and said so, where there is none.
#include <weft/kernels/cuda/row_encoding.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "device_memory.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace weft::kernels {

TEST_CASE("rows encoded on the device are the CPU's, byte for byte") {
  if (!testing::has_device()) return;
  testing::random_source random(8);
  for (const auto coding : {row_codec::int8, row_codec::int4})
    for (const dtype type : testing::all_dtypes)
      for (const std::uint32_t head_dim : {128U, 72U, 33U}) {
        constexpr std::uint32_t rows = 777;
        auto values = random.values(std::size_t{rows} * head_dim, 3.0F);
        values[5] = NAN;
        const testing::stored_values stored(type, values);
        testing::shared_array<std::byte> raw{std::span<const std::byte>(stored.bytes)};
        testing::shared_array<std::byte> codes(rows * code_bytes(coding, type, head_dim));
        testing::shared_array<std::uint16_t> scales(rows * scales_per_row(coding, head_dim));
        testing::shared_array<cuda::rows_to_encode> items(1);
        items[0] = {raw.data(), head_dim, nullptr, rows, coding, codes.data(), scales.data()};
        REQUIRE(cuda::encode_rows(items.data(), 1, rows, head_dim, type, nullptr) == cudaSuccess);
        REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
        std::vector<std::byte> expected(codes.size());
        std::vector<std::uint16_t> expected_scales(scales.size());
        encode_rows(coding, type, stored.bytes.data(), head_dim, std::size_t{rows}, head_dim, expected.data(),
                    expected_scales.data());
        CHECK(std::equal(expected_scales.begin(), expected_scales.end(), scales.data()));
        CHECK(std::memcmp(expected.data(), codes.data(), expected.size()) == 0);
      }
}

}  // namespace weft::kernels
