// What a warp does to select rows by a histogram of 16-bit keys.
#pragma once

#include <weft/kernels/cuda/selection_plan.hpp>

#include "cuda/selection_body.hpp"

namespace weft::kernels::cuda {

// The upper half of the exact key: scores whose halves are equal are equal here.
WEFT_BOTH_SIDES inline std::uint32_t band_key(float score) {
  return selection_key(score) >> 16;
}

// One warp: counts the keys of a piece, `add(bin, how many)`.
template <class Warp, class Add>
WEFT_BOTH_SIDES void count_keys(const Warp& warp, const float* scores, std::uint32_t count, const Add& add) {
  for (std::uint32_t i = 0; i < count; i += warp_lanes) {
    typename Warp::template each_lanes<std::uint32_t> keys;
    warp.each([&](std::uint32_t lane) { keys[lane] = lane < count - i ? band_key(scores[i + lane]) : 0; });
    warp.tally(keys, count - i, add);
  }
}

// One thread of `digits`: how often each upper half of a key is there.
WEFT_BOTH_SIDES inline void sum_bins(std::uint32_t thread, const std::uint32_t* bins, std::uint32_t* upper) {
  upper[thread] = 0;
  for (std::uint32_t i = 0; i < digits; ++i)
    upper[thread] += bins[thread * digits + i];
}

// One warp: the cut behind the first `wanted` of `scores` rows; behind all if there are fewer. `upper`: of
// sum_bins.
template <class Cut, class Warp>
WEFT_BOTH_SIDES Cut find_cut(const Warp& warp, const std::uint32_t* bins, const std::uint32_t* upper,
                             std::uint32_t scores, std::uint32_t wanted) {
  if (wanted == 0 || scores == 0) return {selection_bins, 0};
  key_search search{0, 0, wanted < scores ? wanted : scores};
  take_digit(warp, upper, digit_bits, search);
  take_digit(warp, bins + search.prefix, 0, search);
  return {search.prefix, search.wanted};
}

// One warp: how many scores of a piece lie at each cut: counts[cut * pieces].
template <class Cut, class Warp>
WEFT_BOTH_SIDES void count_ties(const Warp& warp, const float* scores, std::uint32_t count, const Cut* cuts,
                                std::uint32_t cut_count, std::uint32_t* counts, std::size_t pieces) {
  std::uint32_t ties[most_cuts] = {};
  for (std::uint32_t i = 0; i < count; i += warp_lanes) {
    typename Warp::template each_lanes<std::uint32_t> keys;
    warp.each([&](std::uint32_t lane) {
      keys[lane] = lane < count - i ? band_key(scores[i + lane]) : selection_bins + 1;
    });
    for (std::uint32_t cut = 0; cut < cut_count; ++cut)
      ties[cut] += lanes_in(warp.ballot([&](std::uint32_t lane) { return keys[lane] == cuts[cut].key; }));
  }
  warp.each([&](std::uint32_t lane) {
    for (std::uint32_t cut = lane; cut < cut_count; cut += warp_lanes)
      counts[cut * pieces] = ties[cut];
  });
}

// One warp: every count becomes the sum of those before it.
template <class Warp>
WEFT_BOTH_SIDES void sum_before(const Warp& warp, std::uint32_t* counts, std::uint32_t count) {
  std::uint32_t before = 0;
  for (std::uint32_t i = 0; i < count; i += warp_lanes) {
    typename Warp::template each_lanes<std::uint32_t> own;
    warp.each([&](std::uint32_t lane) { own[lane] = lane < count - i ? counts[i + lane] : 0; });
    const auto running = warp.running_sums(own);
    warp.each([&](std::uint32_t lane) {
      if (lane < count - i) counts[i + lane] = before + running[lane] - own[lane];
    });
    before += warp.of_lane(running, warp_lanes - 1);
  }
}

// One warp: the bands of a piece's rows. `ties_before`: [cut * pieces], of the pieces before this one.
template <class Cut, class Warp>
WEFT_BOTH_SIDES void mark_bands(const Warp& warp, const float* scores, std::uint32_t count, const Cut* cuts,
                                std::uint32_t cut_count, const std::uint32_t* ties_before, std::size_t pieces,
                                std::uint8_t beyond, std::uint8_t* bands) {
  std::uint32_t ties[most_cuts];
  for (std::uint32_t cut = 0; cut < cut_count; ++cut)
    ties[cut] = ties_before[cut * pieces];
  for (std::uint32_t i = 0; i < count; i += warp_lanes) {
    typename Warp::template each_lanes<std::uint32_t> keys;
    typename Warp::template each_lanes<std::uint32_t> band;
    warp.each([&](std::uint32_t lane) {
      keys[lane] = lane < count - i ? band_key(scores[i + lane]) : selection_bins + 1;
      band[lane] = 0;
    });
    for (std::uint32_t cut = 0; cut < cut_count; ++cut) {
      const Cut limit = cuts[cut];
      const std::uint32_t equal = warp.ballot([&](std::uint32_t lane) { return keys[lane] == limit.key; });
      warp.each([&](std::uint32_t lane) {
        const bool tied = keys[lane] == limit.key && ties[cut] + lanes_before(equal, lane) < limit.ties;
        // Cuts are nested: a row's band is the number of those that lie before it.
        if (keys[lane] <= limit.key && !tied) ++band[lane];
      });
      ties[cut] += lanes_in(equal);
    }
    warp.each([&](std::uint32_t lane) {
      if (lane < count - i)
        bands[i + lane] = band[lane] < cut_count ? static_cast<std::uint8_t>(band[lane]) : beyond;
    });
  }
}

// One warp: the rows of a band.
template <class Warp, class Item>
WEFT_BOTH_SIDES std::uint32_t count_rows_of_band(const Warp& warp, const Item& item) {
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < item.rows; i += warp_lanes)
    count += lanes_in(warp.ballot(
        [&](std::uint32_t lane) { return lane < item.rows - i && item.bands[i + lane] == item.band; }));
  return count;
}

template <std::size_t Bytes>
struct alignas(Bytes) copied_unit {
  std::uint8_t at[Bytes];
};

// One warp: keys, values and positions of a band's rows, a unit of each row per lane; or positions alone.
template <std::size_t Bytes, class Warp, class Item>
WEFT_BOTH_SIDES void gather_rows_of_band(const Warp& warp, const Item& item, std::uint32_t row_bytes) {
  using unit = copied_unit<Bytes>;
  const std::uint32_t units = row_bytes / Bytes;
  std::size_t found = 0;
  for (std::uint32_t i = 0; i < item.rows; i += warp_lanes) {
    std::uint32_t chosen = warp.ballot(
        [&](std::uint32_t lane) { return lane < item.rows - i && item.bands[i + lane] == item.band; });
    warp.each([&](std::uint32_t lane) {
      if (item.positions != nullptr && (chosen >> lane & 1U) != 0)
        item.positions[found + lanes_before(chosen, lane)] = static_cast<std::uint16_t>(i + lane);
    });
    if (item.k_out == nullptr) {
      found += lanes_in(chosen);
      continue;
    }
    for (; chosen != 0; chosen &= chosen - 1, ++found) {
      const std::uint32_t row = i + lanes_in((chosen & (~chosen + 1)) - 1);
      const std::size_t from = row * item.row_stride_bytes;
      const std::size_t to = found * row_bytes;
      // Keys and values together are one line of units.
      warp.each([&](std::uint32_t lane) {
        for (std::uint32_t u = lane; u < 2 * units; u += warp_lanes) {
          const bool key = u < units;
          const std::size_t at = std::size_t{key ? u : u - units} * Bytes;
          *reinterpret_cast<unit*>((key ? item.k_out : item.v_out) + to + at) =
              *reinterpret_cast<const unit*>((key ? item.k : item.v) + from + at);
        }
      });
    }
  }
}

}  // namespace weft::kernels::cuda
