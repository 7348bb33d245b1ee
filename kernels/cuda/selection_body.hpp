// Exact selection of the largest scores: digits of order-preserving keys from the highest one down, then one
// pass in order. Functions of a thread or a warp.
#pragma once

#include "cuda/elements.hpp"
#include "cuda/lanes.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// Greater for greater scores: -0 = +0; NaN below all numbers.
WEFT_BOTH_SIDES inline std::uint32_t selection_key(float score) {
  if (score != score) return 0;
  const auto bits = bits_as<std::uint32_t>(score + 0.0F);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

inline constexpr std::uint32_t digit_bits = 8;
inline constexpr std::uint32_t digits = 1U << digit_bits;

// Of the keys that begin with `prefix` (where `mask` has bits) the wanted-th greatest is looked for. With all
// bits known, it is `prefix`, and `wanted` keys that equal it are in the selection, the first ones.
struct key_search {
  std::uint32_t prefix;
  std::uint32_t mask;
  std::uint32_t wanted;
};

// One thread's share of counting the next digit: `add(bin)` counts.
template <class Add>
WEFT_BOTH_SIDES void count_digits(std::uint32_t thread, std::uint32_t threads, const float* scores,
                                  std::uint32_t count, const key_search& search, std::uint32_t shift,
                                  const Add& add) {
  for (std::uint32_t i = thread; i < count; i += threads) {
    const std::uint32_t key = selection_key(scores[i]);
    if ((key & search.mask) == search.prefix) add((key >> shift) & (digits - 1));
  }
}

// One warp: the digit at `shift`, of which `histogram` tells how often there is each. `search.wanted` is at
// least 1 and at most the sum of them.
template <class Warp>
WEFT_BOTH_SIDES void take_digit(const Warp& warp, const std::uint32_t* histogram, std::uint32_t shift,
                                key_search& search) {
  constexpr std::uint32_t share = digits / warp_lanes;  // bins of a lane, the greatest first
  typename Warp::template each_lanes<std::uint32_t> sums;
  warp.each([&](std::uint32_t lane) {
    sums[lane] = 0;
    for (std::uint32_t i = 0; i < share; ++i)
      sums[lane] += histogram[digits - 1 - lane * share - i];
  });
  const auto running = warp.running_sums(sums);
  const std::uint32_t wanted = search.wanted;
  // Running sums grow, so the lanes that have not reached the wanted one come first.
  const std::uint32_t lane = lanes_in(warp.ballot([&](std::uint32_t at) { return running[at] < wanted; }));
  std::uint32_t left = wanted - (warp.of_lane(running, lane) - warp.of_lane(sums, lane));
  std::uint32_t digit = digits - 1 - lane * share;
  while (histogram[digit] < left)
    left -= histogram[digit--];
  search = {search.prefix | digit << shift, search.mask | (digits - 1) << shift, left};
}

struct segment_counts {
  std::uint32_t above;
  std::uint32_t equal;
};

// Every count becomes what lies before it.
WEFT_BOTH_SIDES inline void add_up(segment_counts* counts, std::uint32_t segments) {
  segment_counts before{};
  for (std::uint32_t i = 0; i < segments; ++i) {
    const segment_counts own = counts[i];
    counts[i] = before;
    before = {before.above + own.above, before.equal + own.equal};
  }
}

// One warp: what scores [first, end) have above and at a key.
template <class Warp>
WEFT_BOTH_SIDES segment_counts count_segment(const Warp& warp, const float* scores, std::uint32_t first,
                                             std::uint32_t end, std::uint32_t limit) {
  segment_counts counts{};
  for (std::uint32_t i = first; i < end; i += warp_lanes) {
    counts.above += lanes_in(warp.ballot(
        [&](std::uint32_t lane) { return lane < end - i && selection_key(scores[i + lane]) > limit; }));
    counts.equal += lanes_in(warp.ballot(
        [&](std::uint32_t lane) { return lane < end - i && selection_key(scores[i + lane]) == limit; }));
  }
  return counts;
}

// One warp: calls `put(place, index)` for every chosen score of [first, end). `before`: what lies before
// them; of scores at the limit the first `ties` are chosen.
template <class Warp, class Put>
WEFT_BOTH_SIDES void write_segment(const Warp& warp, const float* scores, std::uint32_t first,
                                   std::uint32_t end, std::uint32_t limit, std::uint32_t ties,
                                   segment_counts before, const Put& put) {
  for (std::uint32_t i = first; i < end; i += warp_lanes) {
    const std::uint32_t above = warp.ballot(
        [&](std::uint32_t lane) { return lane < end - i && selection_key(scores[i + lane]) > limit; });
    const std::uint32_t equal = warp.ballot(
        [&](std::uint32_t lane) { return lane < end - i && selection_key(scores[i + lane]) == limit; });
    warp.each([&](std::uint32_t lane) {
      const std::uint32_t equals = before.equal + lanes_before(equal, lane);
      const bool chosen = (above >> lane & 1U) != 0 || ((equal >> lane & 1U) != 0 && equals < ties);
      if (chosen) put(before.above + lanes_before(above, lane) + (equals < ties ? equals : ties), i + lane);
    });
    before.above += lanes_in(above);
    before.equal += lanes_in(equal);
  }
}

// The scores of a warp of several, in order: whole passes of a warp.
WEFT_BOTH_SIDES inline std::uint32_t segment_length(std::uint32_t count, std::uint32_t warps) {
  const std::uint32_t share = count / warps + (count % warps != 0 ? 1 : 0);
  return (share + warp_lanes - 1) / warp_lanes * warp_lanes;
}

// Where segment `index` begins, at most `count`.
WEFT_BOTH_SIDES inline std::uint32_t segment_begin(std::uint32_t count, std::uint32_t warps,
                                                   std::uint32_t index) {
  const std::uint64_t begin = std::uint64_t{segment_length(count, warps)} * index;
  return begin < count ? static_cast<std::uint32_t>(begin) : count;
}

}  // namespace weft::kernels::cuda
