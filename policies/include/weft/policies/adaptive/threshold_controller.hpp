// The adaptive threshold: which relevance a row needs, so that about as many rows have it as there is room
// for.
//
// tau = beta * quantile(r, q), the quantile being the element at floor(q (N - 1)); rows with r > tau want to
// be resident. q rises while more rows want to be resident than may be, falls while there is room, and never
// exceeds 1 - budget / N: a larger one would leave memory unused.
#pragma once

#include <cstdint>
#include <vector>

namespace weft::policies::adaptive {

// Relevances from 0 to 1, counted by the upper half of their bits; what is no number counts as 0.
class relevance_counts {
 public:
  void clear();
  void add(float relevance, std::uint32_t rows = 1);
  std::uint64_t rows() const { return rows_; }
  // The least relevance of the element's bin.
  float element(std::uint64_t index) const;

 private:
  static constexpr std::size_t bins = 0x3F81;  // up to 1.0

  std::vector<std::uint32_t> counts_ = std::vector<std::uint32_t>(bins, 0);
  std::uint64_t rows_ = 0;
};

class threshold_controller {
 public:
  explicit threshold_controller(double beta) : beta_(beta) {}

  // Begins where as many rows are above the threshold as may be resident.
  void start() { quantile_ = 1; }
  // All rows' relevances, resident or not, and how many rows may be resident.
  float threshold(const relevance_counts& known, std::uint64_t budget_rows);
  // How many rows had more than the threshold.
  void wanted(std::uint64_t rows);

  double quantile() const { return quantile_; }

 private:
  double beta_;
  double quantile_ = 0;
  std::uint64_t known_ = 0;
  std::uint64_t budget_ = 0;
};

// Whether a row is to be resident, from the threshold's decisions one after the other: a moving mean, so that
// one of them alone changes nothing. From either end it takes five.
struct smoothed_choice {
  static constexpr float smoothing = 0.8F;
  static constexpr float promote_above = 0.6F;
  static constexpr float demote_below = 0.4F;

  float value = 1;

  void add(bool wanted, float kept = smoothing) {
    value = kept * value + (1 - kept) * (wanted ? 1.0F : 0.0F);
  }
  // What is left of a value after so many decisions.
  static float kept_after(std::uint32_t decisions) {
    float kept = 1;
    for (; decisions > 0 && kept > 1e-3F; --decisions)
      kept *= smoothing;
    return kept;
  }
  bool promotes() const { return value > promote_above; }
  bool demotes() const { return value < demote_below; }
};

}  // namespace weft::policies::adaptive
