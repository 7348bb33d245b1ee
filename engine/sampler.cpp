#include <weft/engine/sampler.hpp>

#include <algorithm>
#include <cmath>

namespace weft::engine {

token_id greedy_token(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[i]))) best = i;
  return static_cast<token_id>(best);
}

sampler::sampler(const sampling& options) : options_(options), random_state_(options.seed) {}

// SplitMix64: the standard library's distributions differ between implementations.
double sampler::uniform() {
  random_state_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t value = random_state_;
  value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27U)) * 0x94d049bb133111ebULL;
  value ^= value >> 31U;
  return static_cast<double>(value >> 11U) * 0x1.0p-53;
}

token_id sampler::next(std::span<const float> logits) {
  const token_id best = greedy_token(logits);
  const double highest = logits[static_cast<std::size_t>(best)];
  if (options_.temperature <= 0 || !std::isfinite(highest)) return best;
  candidates_.clear();
  candidates_.reserve(logits.size());
  double total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((logits[i] - highest) / options_.temperature);
    if (!(weight > 0)) continue;
    candidates_.push_back({weight, static_cast<token_id>(i)});
    total += weight;
  }
  return draw(total);
}

// The likeliest candidates are moved to the back one by one until they hold top_p of the weight: a few of a
// hundred thousand in the usual case, so a heap is cheaper than sorting all.
token_id sampler::draw(double total_weight) {
  auto nucleus = candidates_.begin();
  double weight = total_weight;
  if (options_.top_p < 1) {
    const auto less_likely = [](const candidate& a, const candidate& b) {
      return a.weight != b.weight ? a.weight < b.weight : a.token > b.token;
    };
    std::ranges::make_heap(candidates_, less_likely);
    nucleus = candidates_.end();
    weight = 0;
    while (nucleus != candidates_.begin() && (weight < options_.top_p * total_weight || weight == 0)) {
      std::pop_heap(candidates_.begin(), nucleus, less_likely);
      weight += (--nucleus)->weight;
    }
  }
  double left = uniform() * weight;
  for (auto chosen = nucleus; chosen != candidates_.end(); ++chosen) {
    left -= chosen->weight;
    if (left < 0) return chosen->token;
  }
  return candidates_.back().token;  // rounding used up the whole weight
}

}  // namespace weft::engine
