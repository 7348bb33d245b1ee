#include <weft/kernels/score_window.hpp>
#include <weft/policies/score_order.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>

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

namespace {

constexpr std::size_t sampled_rows = std::size_t{1} << 14U;
constexpr std::size_t fewest_rows = 32 * sampled_rows;     // of fewer a histogram is as fast
constexpr std::size_t piece_rows = std::size_t{1} << 14U;  // what is found in them stays in the cache

// The least number whose key is at least this one; NaN above all of them.
float least_of_key(std::uint32_t key) {
  constexpr std::uint32_t least = 0x7F;  // of minus infinity
  if (key <= least) return -std::numeric_limits<float>::infinity();
  if (key > 0xFF80) return std::numeric_limits<float>::quiet_NaN();
  const std::uint32_t ordered = key << 16U;
  return std::bit_cast<float>((ordered >> 31U) != 0 ? ordered ^ 0x80000000U : ~ordered);
}

// Of the keys of rows at equal distances.
struct key_sample {
  std::vector<std::uint32_t> bins = std::vector<std::uint32_t>(all_keys, 0);
  std::size_t rows = 0;

  // That which has so many before it in the order.
  std::uint32_t key_at(double place) const {
    auto left = static_cast<std::uint64_t>(place);
    std::uint32_t key = all_keys - 1;
    for (; left >= bins[key]; --key)
      left -= bins[key];
    return key;
  }
};

key_sample sample_of(std::span<const std::span<const float>> lists, std::size_t rows) {
  constexpr std::size_t asked_ahead = 32;  // each of them is a miss
  const std::size_t distance = rows / sampled_rows;
  key_sample sample;
  std::size_t next = distance / 2;
  for (const auto list : lists) {
    for (; next < list.size(); next += distance) {
      if (next + asked_ahead * distance < list.size())
        __builtin_prefetch(list.data() + next + asked_ahead * distance);
      ++sample.bins[order_key(list[next])];
      ++sample.rows;
    }
    next -= list.size();
  }
  return sample;
}

// Keys between which the cut behind `count` of `rows` lies, all but certainly: [low, high).
struct key_window {
  std::uint32_t low;
  std::uint32_t high;
};

key_window window_of(const key_sample& sample, std::size_t rows, std::uint64_t count) {
  const auto sampled = static_cast<double>(sample.rows);
  const double share = static_cast<double>(count) / static_cast<double>(rows);
  const double rank = share * sampled;
  // Three times the deviation that a sample has by chance.
  const double margin = 3 * std::sqrt(sampled * share * (1 - share)) + 2;
  return {rank + margin >= sampled ? 1U : sample.key_at(rank + margin),
          rank < margin + 1 ? 0x10000U : sample.key_at(rank - margin) + 1U};
}

// By one pass over all rows and a histogram of those near the cut.
std::optional<score_cut> cut_by_sample(std::span<const std::span<const float>> lists, std::size_t rows,
                                       std::uint64_t count) {
  const key_window keys = window_of(sample_of(lists, rows), rows, count);
  if (keys.low >= keys.high) return std::nullopt;
  std::vector<float> inside(piece_rows + 64);
  std::vector<std::uint64_t> bins(keys.high - keys.low, 0);
  std::uint64_t above = 0;
  for (auto list : lists)
    while (!list.empty()) {
      const auto piece = list.first(std::min(piece_rows, list.size()));
      list = list.subspan(piece.size());
      kernels::score_window found;
      kernels::add_to_window(piece, least_of_key(keys.low), least_of_key(keys.high), found, inside);
      above += found.above;
      for (const float score : std::span(inside).first(found.inside))
        ++bins[order_key(score) - keys.low];
    }
  if (above >= count) return std::nullopt;
  std::uint64_t left = count - above;
  for (std::size_t bin = bins.size(); bin-- > 0; left -= bins[bin])
    if (left <= bins[bin]) return score_cut{static_cast<std::uint32_t>(keys.low + bin), left};
  return std::nullopt;
}

}  // namespace

score_cut cut_behind(std::span<const std::span<const float>> lists, std::uint64_t count) {
  std::size_t rows = 0;
  for (const auto list : lists)
    rows += list.size();
  if (rows >= fewest_rows && count > 0 && count < rows)
    if (const auto found = cut_by_sample(lists, rows, count)) return *found;
  score_histogram all;
  for (const auto list : lists)
    all.add(list);
  return all.cut(count);
}

band_filter::band_filter(std::span<const score_cut> cuts)
    : bands_(all_keys, no_band), cuts_(cuts.begin(), cuts.end()) {
  std::size_t above = all_keys;  // keys from here on have their bands
  for (std::size_t band = 0; band < cuts.size(); ++band) {
    const std::size_t key = cuts[band].key;
    if (key >= above) continue;
    std::fill(bands_.begin() + static_cast<std::ptrdiff_t>(key) + 1,
              bands_.begin() + static_cast<std::ptrdiff_t>(above), static_cast<std::uint8_t>(band));
    bands_[key] = at_a_cut;
    above = key;
  }
}

void band_filter::mark(std::span<const float> scores, std::span<std::uint8_t> bands) {
  const std::uint8_t* const by_key = bands_.data();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::uint16_t key = order_key(scores[i]);
    const std::uint8_t band = by_key[key];
    bands[i] = band == at_a_cut ? band_of_tie(key) : band;
  }
}

std::uint8_t band_filter::band_of_tie(std::uint16_t key) {
  std::uint8_t first = no_band;
  for (std::size_t band = cuts_.size(); band-- > 0;) {
    score_cut& cut = cuts_[band];
    if (cut.key > key || (cut.key == key && cut.ties == 0)) break;
    if (cut.key == key) --cut.ties;
    first = static_cast<std::uint8_t>(band);
  }
  return first;
}

}  // namespace weft::policies
