#include <weft/kernels/score_window.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/score_window.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

bool collect_window(const float* scores, std::size_t count, float low, float high, score_window& window,
                    float* inside, std::size_t room) {
  const f32_tag tag;
  const f32_vector lows = hn::Set(tag, low);
  const f32_vector highs = hn::Set(tag, high);
  std::size_t above = 0;
  std::size_t found = window.inside;
  std::size_t i = 0;
  constexpr std::size_t at_once = 4;
  for (; i + at_once * lanes <= count; i += at_once * lanes) {
    f32_vector here[at_once];
    hn::Mask<f32_tag> between[at_once];
    for (std::size_t v = 0; v < at_once; ++v) {
      here[v] = hn::LoadU(tag, scores + i + v * lanes);
      const auto from_high = hn::Ge(here[v], highs);
      between[v] = hn::AndNot(from_high, hn::Ge(here[v], lows));
      above += hn::CountTrue(tag, from_high);
    }
    if (found + at_once * lanes > room) return false;
    // All of them, found or not: whether there is one among so many is a guess that often fails.
    for (std::size_t v = 0; v < at_once; ++v) {
      // Some CPUs compress into memory very slowly.
      hn::StoreU(hn::Compress(here[v], between[v]), tag, inside + found);
      found += hn::CountTrue(tag, between[v]);
    }
  }
  for (; i < count; ++i) {
    above += scores[i] >= high ? 1 : 0;
    if (!(scores[i] >= low) || scores[i] >= high) continue;
    if (found >= room) return false;
    inside[found++] = scores[i];
  }
  window.above += above;
  window.inside = found;
  return true;
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(collect_window);

bool add_to_window(std::span<const float> scores, float low, float high, score_window& window,
                   std::span<float> inside) {
  return HWY_DYNAMIC_DISPATCH(collect_window)(scores.data(), scores.size(), low, high, window, inside.data(),
                                              inside.size());
}

}  // namespace weft::kernels
#endif
