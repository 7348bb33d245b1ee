// The running softmax of four query heads over tiles of rows.
#if defined(WEFT_KERNELS_HEADS_SOFTMAX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_HEADS_SOFTMAX_INL
#undef WEFT_KERNELS_HEADS_SOFTMAX_INL
#else
#define WEFT_KERNELS_HEADS_SOFTMAX_INL
#endif

#include <hwy/highway.h>

#include "cpu/attention_layout.hpp"
#include "cpu/numbers-inl.hpp"

#include <algorithm>
#include <cstddef>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

#if WEFT_KERNELS_NATIVE_BF16

constexpr std::size_t heads_at_once = 4;

// Scores to base 2 come as [row / 4][head][4], a vector for every four rows.
class heads_softmax {
 public:
  heads_softmax() {
    std::fill_n(maxima_, heads_at_once, hidden_score);
    std::fill_n(weights_, heads_at_once, 0.0F);
  }

  static void hide_rows(std::size_t rows, std::size_t padded, float* scores) {
    for (std::size_t row = rows; row < padded; ++row)
      for (std::size_t head = 0; head < heads_at_once; ++head)
        scores[row / 4 * lanes + head * 4 + row % 4] = hidden_score;
  }

  // Gives `store` the weights of every four rows; `factors`, by head, are for what was summed before.
  template <class Store>
  HWY_INLINE void weigh(const float* scores, std::size_t quads, float* factors, const Store& store) {
    const f32_tag tag;
    f32_vector largest = hn::Load(tag, scores);
    for (std::size_t i = 1; i < quads; ++i)
      largest = hn::Max(largest, hn::Load(tag, scores + i * lanes));
    float by_lane[lanes];
    hn::StoreU(largest, tag, by_lane);
    for (std::size_t head = 0; head < heads_at_once; ++head) {
      const float* lane = by_lane + head * 4;
      const float maximum = std::max({maxima_[head], lane[0], lane[1], lane[2], lane[3]});
      factors[head] = hn::GetLane(exp2_of<false>(hn::Set(tag, maxima_[head] - maximum)));
      maxima_[head] = maximum;
      std::fill_n(by_lane + head * 4, 4, maximum);
    }
    const f32_vector base = hn::LoadU(tag, by_lane);
    f32_vector total = hn::Zero(tag);
    for (std::size_t i = 0; i < quads; ++i) {
      const f32_vector weight = exp2_of<true>(hn::Sub(hn::Load(tag, scores + i * lanes), base));
      total = hn::Add(total, weight);
      store(i, weight);
    }
    hn::StoreU(total, tag, by_lane);
    for (std::size_t head = 0; head < heads_at_once; ++head) {
      const float* lane = by_lane + head * 4;
      weights_[head] = weights_[head] * factors[head] + ((lane[0] + lane[1]) + (lane[2] + lane[3]));
    }
  }

  float maximum(std::size_t head) const { return maxima_[head]; }
  float weight(std::size_t head) const { return weights_[head]; }

 private:
  float maxima_[heads_at_once];
  float weights_[heads_at_once];
};

#endif

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
