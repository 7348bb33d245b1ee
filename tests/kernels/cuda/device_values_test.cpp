// Operations on single values on a device, against their definitions: bit for bit. Skipped, and said so,
// where there is none.
#include <weft/kernels/cuda/activations.hpp>
#include <weft/kernels/cuda/ordered_sums.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "device_memory.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace weft::kernels {
namespace {

using testing::has_device;
using testing::shared_array;

TEST_CASE("ranks' values are summed on the device in the order of the ranks, in place, too") {
  if (!has_device()) return;
  testing::random_source random(1);
  constexpr std::uint32_t ranks = 5;
  for (const std::size_t count : {std::size_t{1}, std::size_t{256}, std::size_t{70'001}}) {
    const std::size_t stride = count + 3;
    const auto values = random.values(ranks * stride);
    shared_array<float> there{std::span<const float>(values)};
    shared_array<float> out(count);
    REQUIRE(cuda::sum_in_order(there.data(), stride, ranks, count, out.data(), nullptr) == cudaSuccess);
    REQUIRE(cuda::sum_in_order(there.data(), stride, ranks, count, there.data() + stride, nullptr) ==
            cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
      float sum = values[i];
      for (std::uint32_t rank = 1; rank < ranks; ++rank)
        sum += values[rank * stride + i];
      wrong += out[i] == sum && there[stride + i] == sum ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
  shared_array<float> none(1);
  CHECK(cuda::sum_in_order(none.data(), 1, 2, 0, none.data(), nullptr) == cudaSuccess);
  CHECK(cuda::sum_in_order(none.data(), 1, 0, 1, none.data(), nullptr) == cudaErrorInvalidValue);
}

TEST_CASE("biases are added and values rounded on the device as on the CPU") {
  if (!has_device()) return;
  testing::random_source random(2);
  constexpr std::uint32_t rows = 19;
  constexpr std::uint32_t columns = 133;
  constexpr std::size_t stride = columns + 5;
  const auto values = random.values(rows * stride);
  const auto bias = random.values(columns);
  shared_array<float> x{std::span<const float>(values)}, added{std::span<const float>(bias)};
  REQUIRE(cuda::add_bias({x.data(), stride, added.data(), rows, columns}, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  std::vector<float> sums(std::size_t{rows} * columns);
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t column = 0; column < stride; ++column) {
      const float before = values[row * stride + column];
      if (column < columns) sums[row * columns + column] = before + bias[column];
      REQUIRE(x[row * stride + column] == (column < columns ? before + bias[column] : before));
    }
  for (const dtype type : testing::all_dtypes) {
    const testing::stored_values expected(type, sums);
    shared_array<std::byte> out(expected.bytes.size());
    REQUIRE(cuda::round_rows({x.data(), stride, out.data(), type, rows, columns}, nullptr) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(std::memcmp(expected.bytes.data(), out.data(), out.size()) == 0);
  }
}

TEST_CASE("rows are moved and labelled on the device") {
  if (!has_device()) return;
  testing::random_source random(3);
  constexpr std::uint32_t rows = 41;
  constexpr std::uint32_t columns = 77;
  const auto values = random.values(std::size_t{100} * columns);
  shared_array<float> from{std::span<const float>(values)}, to(rows * std::size_t{columns + 1});
  shared_array<std::uint32_t> row(rows);
  for (std::uint32_t i = 0; i < rows; ++i)
    row[i] = random.between(0, 99);
  REQUIRE(cuda::move_rows({from.data(), columns, row.data(), to.data(), columns + 1, rows, columns},
                          nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t column = 0; column < columns; ++column)
      REQUIRE(to[i * (columns + 1) + column] == values[std::size_t{row[i]} * columns + column]);

  constexpr std::uint32_t most = 300;
  const std::vector<std::uint32_t> counts{0, most, 1, 255};
  shared_array<std::int32_t> positions(most), segments(most);
  shared_array<std::int32_t> positions_out(counts.size() * most), segments_out(counts.size() * most);
  shared_array<cuda::label_item> items(counts.size());
  std::fill_n(positions_out.data(), positions_out.size(), -1);
  std::fill_n(segments_out.data(), segments_out.size(), -1);
  for (std::uint32_t i = 0; i < most; ++i) {
    positions[i] = static_cast<std::int32_t>(i * 7);
    segments[i] = static_cast<std::int32_t>(i / 9);
  }
  for (std::size_t i = 0; i < counts.size(); ++i)
    items[i] = {positions.data(), segments.data(), positions_out.data() + i * most,
                segments_out.data() + i * most, counts[i]};
  REQUIRE(cuda::label_rows(items.data(), static_cast<std::uint32_t>(items.size()), most, nullptr) ==
          cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  for (std::size_t i = 0; i < counts.size(); ++i)
    for (std::size_t at = 0; at < most; ++at) {
      REQUIRE(positions_out[i * most + at] == (at < counts[i] ? positions[at] : -1));
      REQUIRE(segments_out[i * most + at] == (at < counts[i] ? segments[at] : -1));
    }
}

}  // namespace
}  // namespace weft::kernels
