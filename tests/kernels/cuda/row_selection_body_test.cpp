// The warps that divide rows into bands, against the CPU's order of rows.
#include "cuda/row_selection_body.hpp"

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/cuda/selection_plan.hpp>
#include <weft/policies/score_order.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "reference/host_warp.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace weft::kernels::cuda {
namespace {

constexpr std::uint8_t no_band = 0xFF;

struct cut_like_device {
  std::uint32_t key, ties;
};

using score_lists = std::vector<std::vector<float>>;
using band_lists = std::vector<std::vector<std::uint8_t>>;

score_lists random_lists(testing::random_source& random) {
  score_lists lists(random.between(1, 5));
  for (auto& list : lists) {
    list = random.values(random.between(0, 10) == 0 ? 0 : random.between(1, 9000), 3.0F);
    for (float& score : list) {
      if (random.between(0, 3) == 0) score = static_cast<float>(random.between(0, 4)) - 2.0F;
      if (random.between(0, 50) == 0) score = -std::numeric_limits<float>::infinity();
      if (random.between(0, 50) == 0) score = std::numeric_limits<float>::quiet_NaN();
      if (random.between(0, 50) == 0) score = -0.0F;
    }
  }
  return lists;
}

// What the kernels of select_bands do.
band_lists select(const score_lists& lists, const std::vector<std::uint32_t>& wanted,
                  std::vector<cut_like_device>& cuts) {
  std::vector<std::uint32_t> counts;
  band_lists bands;
  for (const auto& list : lists) {
    counts.push_back(static_cast<std::uint32_t>(list.size()));
    bands.emplace_back(list.size(), std::uint8_t{77});
  }
  selection_plan plan;
  plan.assign(counts);
  const auto cut_count = static_cast<std::uint32_t>(wanted.size());
  const std::size_t pieces = plan.pieces().size();
  std::vector<std::uint32_t> scratch(plan.scratch_bytes(cut_count) / sizeof(std::uint32_t), 0);
  std::uint32_t* const ties = scratch.data() + selection_bins;
  const reference::host_warp warp;
  const auto scores_of = [&](const score_piece& piece) { return lists[piece.list].data() + piece.first; };
  for (const auto& piece : plan.pieces())
    count_keys(warp, scores_of(piece), piece.count,
               [&](std::uint32_t bin, std::uint32_t many) { scratch[bin] += many; });
  std::vector<std::uint32_t> upper(digits);
  for (std::uint32_t thread = 0; thread < digits; ++thread)
    sum_bins(thread, scratch.data(), upper.data());
  cuts.clear();
  for (const std::uint32_t count : wanted)
    cuts.push_back(find_cut<cut_like_device>(warp, scratch.data(), upper.data(), plan.scores(), count));
  for (std::size_t i = 0; i < pieces; ++i)
    count_ties(warp, scores_of(plan.pieces()[i]), plan.pieces()[i].count, cuts.data(), cut_count, ties + i,
               pieces);
  for (std::uint32_t cut = 0; cut < cut_count; ++cut)
    sum_before(warp, ties + cut * pieces, static_cast<std::uint32_t>(pieces));
  for (std::size_t i = 0; i < pieces; ++i) {
    const auto& piece = plan.pieces()[i];
    mark_bands(warp, scores_of(piece), piece.count, cuts.data(), cut_count, ties + i, pieces, no_band,
               bands[piece.list].data() + piece.first);
  }
  return bands;
}

TEST_CASE("cuts and bands are those of the order in which the CPU keeps rows") {
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    testing::random_source random(seed);
    const auto lists = random_lists(random);
    policies::score_histogram histogram;
    std::uint32_t rows = 0;
    for (const auto& list : lists) {
      histogram.add(list);
      rows += static_cast<std::uint32_t>(list.size());
    }
    std::vector<std::uint32_t> wanted(random.between(1, most_cuts));
    for (auto& count : wanted)
      count = random.between(0, rows + 10);
    std::ranges::sort(wanted);
    std::vector<cut_like_device> cuts;
    const auto bands = select(lists, wanted, cuts);

    std::vector<policies::cut_filter> filters;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto expected = histogram.cut(wanted[i]);
      REQUIRE(cuts[i].key == expected.key);
      REQUIRE(cuts[i].ties == expected.ties);
      filters.emplace_back(expected);
    }
    for (std::size_t list = 0; list < lists.size(); ++list)
      for (std::size_t row = 0; row < lists[list].size(); ++row) {
        auto expected = static_cast<std::uint8_t>(wanted.size());
        for (std::size_t cut = wanted.size(); cut-- > 0;)
          if (filters[cut].keeps(lists[list][row])) expected = static_cast<std::uint8_t>(cut);
        REQUIRE(bands[list][row] == (expected < wanted.size() ? expected : no_band));
      }
  }
}

TEST_CASE("keys are the CPU's for every upper half of a float") {
  for (std::uint32_t upper = 0; upper < 0x10000; ++upper)
    for (const std::uint32_t lower : {0U, 1U, 0xFFFFU}) {
      const auto score = bits_as<float>(upper << 16 | lower);
      REQUIRE(band_key(score) == policies::order_key(score));
    }
}

TEST_CASE("a plan's pieces are the scores of its lists, in order, each once") {
  selection_plan plan;
  const std::vector<std::uint32_t> counts{0, 1, 4096, 4097, 0, 100'000};
  plan.assign(counts);
  CHECK(plan.scores() == 108'194);
  std::vector<std::uint32_t> next(counts.size(), 0);
  std::uint32_t last = 0;
  for (const auto& piece : plan.pieces()) {
    CHECK(piece.list >= last);
    CHECK(piece.first == next[piece.list]);
    next[piece.list] += piece.count;
    last = piece.list;
  }
  CHECK(next == counts);
  CHECK_THROWS_AS(plan.assign(std::vector<std::uint32_t>{0xFFFFFFFF, 1}), std::invalid_argument);
}

struct rows_like_device {
  const std::uint8_t* bands;
  std::uint32_t rows;
  std::uint8_t band;
  const std::byte* k;
  const std::byte* v;
  std::size_t row_stride_bytes;
  std::byte* k_out;
  std::byte* v_out;
  std::uint16_t* positions;
};

template <std::size_t Bytes>
void check_gather(testing::random_source& random, std::uint32_t rows, std::uint32_t row_bytes,
                  std::size_t stride) {
  CAPTURE(rows);
  CAPTURE(row_bytes);
  std::vector<std::uint8_t> bands(rows);
  for (auto& band : bands)
    band = static_cast<std::uint8_t>(random.between(0, 2));
  const auto filled = [&] {
    aligned_buffer bytes(std::max<std::size_t>(rows * stride, 1));
    for (std::size_t i = 0; i < rows * stride; ++i)
      bytes.data()[i] = static_cast<std::byte>(random.between(0, 255));
    return bytes;
  };
  const auto k = filled();
  const auto v = filled();
  for (std::uint8_t band = 0; band < 3; ++band) {
    const auto count = static_cast<std::size_t>(std::ranges::count(bands, band));
    aligned_buffer k_out(std::max<std::size_t>(count * row_bytes, 1));
    aligned_buffer v_out(std::max<std::size_t>(count * row_bytes, 1));
    std::vector<std::uint16_t> positions(count);
    const rows_like_device item{bands.data(), rows,         band,         k.data(),        v.data(),
                                stride,       k_out.data(), v_out.data(), positions.data()};
    const reference::host_warp warp;
    REQUIRE(count_rows_of_band(warp, item) == count);
    gather_rows_of_band<Bytes>(warp, item, row_bytes);
    rows_like_device positions_only = item;
    std::vector<std::uint16_t> same_positions(count);
    positions_only.k_out = positions_only.v_out = nullptr;
    positions_only.positions = same_positions.data();
    gather_rows_of_band<Bytes>(warp, positions_only, row_bytes);
    REQUIRE(same_positions == positions);
    std::size_t found = 0;
    for (std::uint32_t row = 0; row < rows; ++row) {
      if (bands[row] != band) continue;
      REQUIRE(positions[found] == row);
      REQUIRE(std::equal(k.data() + row * stride, k.data() + row * stride + row_bytes,
                         k_out.data() + found * row_bytes));
      REQUIRE(std::equal(v.data() + row * stride, v.data() + row * stride + row_bytes,
                         v_out.data() + found * row_bytes));
      ++found;
    }
  }
}

TEST_CASE("the rows of a band are gathered in their order") {
  testing::random_source random(9);
  for (const std::uint32_t rows : {0U, 1U, 31U, 32U, 33U, 256U, 1000U}) {
    check_gather<16>(random, rows, 256, 256);
    check_gather<16>(random, rows, 128, 1024);
    check_gather<16>(random, rows, 1024, 1024);
    check_gather<4>(random, rows, 12, 20);
    check_gather<2>(random, rows, 6, 6);
  }
}

}  // namespace
}  // namespace weft::kernels::cuda
