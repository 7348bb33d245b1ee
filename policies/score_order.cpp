#include <weft/policies/score_order.hpp>

#include <algorithm>
#include <array>
#include <numeric>

namespace weft::policies {

namespace {

constexpr std::size_t all_keys = 0x10000;

}  // namespace

score_histogram::score_histogram() : bins_(all_keys, 0) {}

void score_histogram::add(std::span<const float> scores) {
  for (const float score : scores)
    ++bins_[order_key(score)];
}

void score_histogram::add(const score_histogram& other) {
  std::ranges::transform(bins_, other.bins_, bins_.begin(), std::plus<>{});
}

std::uint64_t score_histogram::rows() const {
  return std::accumulate(bins_.begin(), bins_.end(), std::uint64_t{0});
}

score_cut score_histogram::cut(std::uint64_t count) const {
  score_cut found;
  if (count == 0) return found;
  std::uint64_t left = count;
  for (std::size_t key = all_keys; key-- > 0;) {
    if (bins_[key] == 0) continue;
    found = {static_cast<std::uint32_t>(key), std::min(left, bins_[key])};
    left -= found.ties;
    if (left == 0) break;
  }
  return found;
}

}  // namespace weft::policies
