// The order in which rows are kept: score descending, then layer, KV head, position.
//
// Scores are compared as 16-bit keys, the upper half of an order-preserving form of the f32: scores whose
// keys are equal are equal. So the k-th score of any number of rows is found exactly with a histogram of
// 65,536 bins, and histograms of shards and nodes add up.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::policies {

// -0 = +0; what is not a number comes last.
constexpr std::uint16_t order_key(float score) {
  if (score != score) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);
  const std::uint32_t ordered = (bits >> 31U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<std::uint16_t>(ordered >> 16U);
}

// Where the first `count` rows of an order end: all rows with a greater key belong to them, and of those with
// this key the first `ties`, by layer, head and position.
struct score_cut {
  std::uint32_t key = 0x10000;  // above every key: nothing is kept
  std::uint64_t ties = 0;

  friend bool operator==(const score_cut&, const score_cut&) = default;
};

class score_histogram {
 public:
  score_histogram();

  void add(std::span<const float> scores);
  void add(const score_histogram& other);
  std::uint64_t rows() const;

  // The cut behind the first `count` rows; behind all of them if there are fewer.
  score_cut cut(std::uint64_t count) const;

 private:
  std::vector<std::uint64_t> bins_;
};

// The cut behind the first `count` rows of these lists together, as their histogram gives it. Of many rows a
// sample says between which keys it lies, and one pass counts what is above and makes a histogram of what is
// between; where the sample was wrong, the histogram of all decides.
score_cut cut_behind(std::span<const std::span<const float>> lists, std::uint64_t count);

// Says of rows, shown in the order of layer, head and position, which come before a cut.
class cut_filter {
 public:
  explicit cut_filter(const score_cut& cut) : key_(cut.key), ties_left_(cut.ties) {}

  bool keeps(float score) {
    const std::uint32_t key = order_key(score);
    if (key == key_ && ties_left_ > 0) {  // few rows: nothing else is a branch
      --ties_left_;
      return true;
    }
    return key > key_;
  }

 private:
  std::uint32_t key_;
  std::uint64_t ties_left_;
};

// The same of several cuts, each of which keeps what the one before it does: which one is the first to keep
// a row.
class band_filter {
 public:
  static constexpr std::uint8_t no_band = 0xFF;  // none of them

  // At most 254.
  explicit band_filter(std::span<const score_cut> cuts);

  // bands: of each of the next rows.
  void mark(std::span<const float> scores, std::span<std::uint8_t> bands);

 private:
  static constexpr std::uint8_t at_a_cut = 0xFE;
  std::uint8_t band_of_tie(std::uint16_t key);

  std::vector<std::uint8_t> bands_;  // by key
  std::vector<score_cut> cuts_;      // with the ties that are left
};

}  // namespace weft::policies
