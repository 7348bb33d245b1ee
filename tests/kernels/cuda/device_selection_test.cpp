// Rows divided into bands on a device, and put together, against sorting. Skipped, and said so, where there
// is none.
#include <weft/kernels/cuda/band_rows.hpp>
#include <weft/kernels/cuda/row_selection.hpp>
#include <weft/policies/score_order.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "device_memory.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace weft::kernels {
namespace {

using testing::has_device;
using testing::shared_array;

TEST_CASE("cuts and bands on the device are those of the order in which the CPU keeps rows") {
  if (!has_device()) return;
  testing::random_source random(4);
  const std::vector<std::uint32_t> counts{testing::as_fits(100'001, 10'001), 0, 7, 65'536,
                                          testing::as_fits(1'000'000, 30'000)};
  std::uint32_t rows = 0;
  for (const auto count : counts)
    rows += count;
  auto values = random.values(rows, 3.0F);
  for (float& score : values) {
    if (random.between(0, 3) == 0) score = static_cast<float>(random.between(0, 3));
    if (random.between(0, 999) == 0) score = std::numeric_limits<float>::quiet_NaN();
  }
  shared_array<float> scores{std::span<const float>(values)};
  shared_array<std::uint8_t> bands(rows);
  shared_array<cuda::score_list> lists(counts.size());
  for (std::size_t i = 0, first = 0; i < counts.size(); first += counts[i], ++i)
    lists[i] = {scores.data() + first, bands.data() + first};
  const std::vector<std::uint32_t> shares{0, rows / 10, rows / 5, rows / 2, rows / 2, rows};
  shared_array<std::uint32_t> wanted{std::span<const std::uint32_t>(shares)};
  const auto cut_count = static_cast<std::uint32_t>(shares.size());

  cuda::selection_plan plan;
  plan.assign(counts);
  shared_array<cuda::score_piece> pieces{plan.pieces()};
  shared_array<cuda::selection_cut> cuts(cut_count);
  shared_array<std::uint32_t> scratch(plan.scratch_bytes(cut_count) / sizeof(std::uint32_t));
  const cuda::selection_work work{pieces.data(), static_cast<std::uint32_t>(pieces.size()),
                                  plan.scores(), lists.data(),
                                  wanted.data(), cut_count,
                                  cuts.data(),   scratch.data()};
  REQUIRE(cuda::select_bands(work, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);

  policies::score_histogram histogram;
  histogram.add(values);
  std::vector<policies::cut_filter> filters;
  for (std::uint32_t i = 0; i < cut_count; ++i) {
    const auto expected = histogram.cut(shares[i]);
    CHECK(cuts[i].key == expected.key);
    CHECK(cuts[i].ties == expected.ties);
    filters.emplace_back(expected);
  }
  std::size_t wrong = 0;
  for (std::uint32_t row = 0; row < rows; ++row) {
    std::uint8_t expected = cuda::no_band;
    for (std::size_t cut = cut_count; cut-- > 0;)
      if (filters[cut].keeps(values[row])) expected = static_cast<std::uint8_t>(cut);
    wrong += bands[row] == expected ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("the rows of a band are gathered on the device in their order") {
  if (!has_device()) return;
  testing::random_source random(5);
  for (const std::uint32_t row_bytes : {256U, 12U, 6U}) {
    constexpr std::uint32_t rows = 999;
    shared_array<std::uint8_t> bands(rows);
    shared_array<std::byte> k(std::size_t{rows} * row_bytes), v(k.size());
    shared_array<std::byte> k_out(k.size()), v_out(k.size());
    shared_array<std::uint16_t> positions(rows);
    shared_array<std::uint32_t> counts(1);
    for (std::uint32_t i = 0; i < rows; ++i)
      bands[i] = static_cast<std::uint8_t>(random.between(0, 2));
    for (std::size_t i = 0; i < k.size(); ++i) {
      k[i] = static_cast<std::byte>(random.between(0, 255));
      v[i] = static_cast<std::byte>(random.between(0, 255));
    }
    shared_array<cuda::band_rows> items(1);
    items[0] = {bands.data(),    rows, 1, k.data(), v.data(), row_bytes, k_out.data(), v_out.data(),
                positions.data()};
    REQUIRE(cuda::count_band_rows(items.data(), 1, counts.data(), nullptr) == cudaSuccess);
    REQUIRE(cuda::gather_band_rows(items.data(), 1, row_bytes, nullptr) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    std::uint32_t found = 0;
    for (std::uint32_t row = 0; row < rows; ++row) {
      if (bands[row] != 1) continue;
      REQUIRE(positions[found] == row);
      REQUIRE(std::memcmp(k_out.data() + found * row_bytes, k.data() + row * row_bytes, row_bytes) == 0);
      REQUIRE(std::memcmp(v_out.data() + found * row_bytes, v.data() + row * row_bytes, row_bytes) == 0);
      ++found;
    }
    CHECK(counts[0] == found);
  }
}

TEST_CASE("parts are filled on the device with numbers and zeros") {
  if (!has_device()) return;
  constexpr std::uint32_t count = 777;
  constexpr std::uint32_t zero_bytes = 61;
  shared_array<std::uint16_t> numbers(count);
  shared_array<std::byte> out(2 * count + zero_bytes + 1), zeros(7);
  for (std::uint32_t i = 0; i < count; ++i)
    numbers[i] = static_cast<std::uint16_t>(i * 31);
  std::fill_n(out.data(), out.size(), std::byte{0xA5});
  std::fill_n(zeros.data(), zeros.size(), std::byte{0xA5});
  shared_array<cuda::filled_part> items(2);
  items[0] = {numbers.data(), count, zero_bytes, out.data()};
  items[1] = {nullptr, 0, 5, zeros.data() + 1};
  REQUIRE(cuda::fill_parts(items.data(), 2, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(std::memcmp(out.data(), numbers.data(), 2 * count) == 0);
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  CHECK(std::all_of(out.data() + 2 * count, out.data() + out.size() - 1, is_zero));
  CHECK(out[out.size() - 1] == std::byte{0xA5});
  CHECK(zeros[0] == std::byte{0xA5});
  CHECK(std::all_of(zeros.data() + 1, zeros.data() + 6, is_zero));
  CHECK(zeros[6] == std::byte{0xA5});
}

}  // namespace
}  // namespace weft::kernels
