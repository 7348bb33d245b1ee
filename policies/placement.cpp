#include <weft/policies/placement.hpp>

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>

namespace weft::policies {

namespace {

__extension__ using uint128 = unsigned __int128;

// Logarithms are fixed-point numbers with 48 bits behind the point.
constexpr unsigned fraction_bits = 48;
constexpr unsigned table_bits = 10;

// log2(mantissa / 2^63) for a mantissa in [2^63, 2^64), bit by bit: squaring doubles the logarithm.
constexpr std::uint64_t log2_by_squaring(std::uint64_t mantissa) {
  std::uint64_t logarithm = 0;
  for (unsigned i = 0; i < fraction_bits; ++i) {
    const uint128 square = (static_cast<uint128>(mantissa) * mantissa) >> 63;  // in [2^63, 2^65)
    const bool two_or_more = (square >> 64) != 0;
    mantissa = static_cast<std::uint64_t>(two_or_more ? square >> 1 : square);
    logarithm = logarithm << 1 | (two_or_more ? 1 : 0);
  }
  return logarithm;
}

// log2(1 + i / 2^table_bits).
constexpr auto make_log2_table() {
  std::array<std::uint64_t, (1 << table_bits) + 1> table{};
  for (std::uint64_t i = 0; i < (1 << table_bits); ++i)
    table[i] = log2_by_squaring((std::uint64_t{1} << 63) | i << (63 - table_bits));
  table.back() = std::uint64_t{1} << fraction_bits;
  return table;
}

constexpr auto log2_table = make_log2_table();

// -log2(draw / 2^64), at most 64, by linear interpolation: at most one part in 2000 off, the same everywhere.
std::uint64_t negative_log2(std::uint64_t draw) {
  const int leading = std::countl_zero(draw | 1);
  const std::uint64_t fraction = ((draw | 1) << leading) << 1;  // behind the leading one
  const std::uint64_t index = fraction >> (64 - table_bits);
  const std::uint64_t rest = fraction << table_bits;
  const std::uint64_t step = log2_table[index + 1] - log2_table[index];
  const std::uint64_t logarithm =
      log2_table[index] + static_cast<std::uint64_t>((uint128{step} * rest) >> 64);
  return (static_cast<std::uint64_t>(leading + 1) << fraction_bits) - logarithm;
}

std::uint64_t draw_of(const id128& key, const id128& node) {
  const std::array<std::uint64_t, 4> words{key.high, key.low, node.high, node.low};
  return XXH3_64bits(words.data(), sizeof words);
}

// The time until the node's first arrival in a race where it arrives `weight` times in a unit of time.
struct candidate {
  std::uint64_t exponential = 0;
  std::uint64_t weight = 1;
  id128 id;

  // exponential / weight compared exactly: 55 and 64 bits make 119.
  friend bool operator<(const candidate& a, const candidate& b) {
    const uint128 left = uint128{a.exponential} * b.weight;
    const uint128 right = uint128{b.exponential} * a.weight;
    return left != right ? left < right : a.id < b.id;
  }
};

candidate candidate_of(const id128& key, const weighted_node& node) {
  return {.exponential = negative_log2(draw_of(key, node.id)), .weight = node.weight, .id = node.id};
}

}  // namespace

std::vector<id128> place(const id128& key, std::span<const weighted_node> nodes, std::size_t replicas) {
  std::vector<candidate> candidates;
  candidates.reserve(nodes.size());
  for (const weighted_node& node : nodes)
    if (node.weight != 0) candidates.push_back(candidate_of(key, node));
  const std::size_t chosen = std::min(replicas, candidates.size());
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(chosen),
                    candidates.end());
  std::vector<id128> ids;
  ids.reserve(chosen);
  for (std::size_t i = 0; i < chosen; ++i)
    ids.push_back(candidates[i].id);
  return ids;
}

id128 owner_of(const id128& key, std::span<const weighted_node> nodes) {
  candidate best;
  for (const weighted_node& node : nodes) {
    if (node.weight == 0) continue;
    const candidate next = candidate_of(key, node);
    if (!best.id || next < best) best = next;
  }
  return best.id;
}

}  // namespace weft::policies
