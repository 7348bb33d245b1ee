#include <weft/kernels/top_k.hpp>

#include <bit>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/top_k.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// How many scores are at least `limit`; comparisons with NaN are false.
std::size_t count_from(const float* scores, std::size_t count, float limit) {
  const f32_tag tag;
  const f32_vector limits = hn::Set(tag, limit);
  std::size_t found = 0;
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    found += hn::CountTrue(tag, hn::Ge(hn::LoadU(tag, scores + i), limits));
  for (; i < count; ++i)
    found += scores[i] >= limit ? 1 : 0;
  return found;
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(count_from);

namespace {

constexpr std::uint32_t sign = 0x80000000U;
constexpr std::uint32_t lowest_key = 0x007FFFFFU;   // of minus infinity
constexpr std::uint32_t highest_key = 0xFF800000U;  // of infinity

// Keys of floats in the order of the floats.
float float_of_key(std::uint32_t key) {
  return std::bit_cast<float>((key & sign) != 0 ? key ^ sign : ~key);
}

}  // namespace

void top_k(std::span<const float> scores, std::span<std::uint32_t> out) {
  if (out.size() > scores.size()) throw std::invalid_argument("top_k: more wanted than there are scores");
  if (out.empty()) return;
  auto* const count = &HWY_DYNAMIC_DISPATCH(count_from);
  const auto from = [&](std::uint32_t key) { return count(scores.data(), scores.size(), float_of_key(key)); };
  // Where NaN must fill up, everything else is in.
  const bool all_numbers = from(lowest_key) < out.size();
  std::uint32_t low = lowest_key;
  std::uint32_t high = highest_key;
  while (!all_numbers && low < high) {
    const std::uint32_t middle = low + (high - low + 1) / 2;
    const std::size_t above_middle = from(middle);
    if (above_middle >= out.size())
      low = middle;
    else
      high = middle - 1;
    if (above_middle == out.size()) break;  // no ties, wherever exactly the last one lies
  }
  const float limit = float_of_key(low);
  std::size_t above = 0;
  for (const float score : scores)
    above += (all_numbers ? score == score : score > limit) ? 1 : 0;
  std::size_t ties = out.size() - above;
  std::size_t found = 0;
  for (std::size_t i = 0; i < scores.size() && found < out.size(); ++i) {
    const float score = scores[i];
    const bool chosen = all_numbers ? score == score : score > limit;
    const bool tied = !chosen && (all_numbers || score == limit);
    if (!chosen && !(tied && ties > 0)) continue;
    if (tied) --ties;
    out[found++] = static_cast<std::uint32_t>(i);
  }
}

}  // namespace weft::kernels
#endif
