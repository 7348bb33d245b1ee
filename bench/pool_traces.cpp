#include "pool_traces.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <utility>

namespace weft::bench {
namespace {

constexpr double zipf_exponent = 0.9;
constexpr std::uint32_t zipf_blocks = 100'000;
constexpr std::uint64_t block_cost = 1000;
constexpr std::uint64_t cost_per_block_before = 10;

// Ranks 0 .. n-1, the i-th with a weight of 1 / (i + 1)^exponent.
class zipf_ranks {
 public:
  explicit zipf_ranks(std::uint32_t n) {
    double sum = 0;
    for (std::uint32_t i = 0; i < n; ++i)
      sums_.push_back(sum += 1.0 / std::pow(i + 1.0, zipf_exponent));
  }

  std::uint32_t draw(std::mt19937_64& random) const {
    const double at = std::uniform_real_distribution(0.0, sums_.back())(random);
    const auto found = std::ranges::upper_bound(sums_, at);
    return static_cast<std::uint32_t>(std::min<std::ptrdiff_t>(found - sums_.begin(), std::ssize(sums_) - 1));
  }

 private:
  std::vector<double> sums_;
};

class agents {
 public:
  agents(std::uint64_t requests, std::uint64_t seed) : wanted_(requests), random_(seed) {
    for (std::uint32_t i = 0; i < beginnings; ++i)
      beginnings_.push_back(new_blocks(0, between(16, 48)));
    for (std::uint32_t i = 0; i < at_a_time; ++i)
      open_.push_back(begin());
  }

  pool_trace make() {
    while (trace_.requests.size() < wanted_) {
      conversation& c = open_[random_() % open_.size()];
      const auto more = new_blocks(c.blocks.size(), between(1, 6));
      c.blocks.insert(c.blocks.end(), more.begin(), more.end());
      trace_.requests.insert(trace_.requests.end(), c.blocks.begin(), c.blocks.end());
      if (--c.turns_left == 0) c = begin();
    }
    trace_.requests.resize(wanted_);
    return std::move(trace_);
  }

 private:
  static constexpr std::uint32_t beginnings = 200;
  static constexpr std::uint32_t at_a_time = 100;

  struct conversation {
    std::vector<block_number> blocks;
    std::uint64_t turns_left = 0;
  };

  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + random_() % (high - low + 1); }

  conversation begin() { return {beginnings_[popularity_.draw(random_)], between(1, 20)}; }

  std::vector<block_number> new_blocks(std::uint64_t position, std::uint64_t count) {
    std::vector<block_number> blocks;
    for (std::uint64_t i = 0; i < count; ++i) {
      blocks.push_back(static_cast<block_number>(trace_.costs.size()));
      trace_.costs.push_back(block_cost + (position + i) * cost_per_block_before);
    }
    return blocks;
  }

  std::uint64_t wanted_;
  std::mt19937_64 random_;
  zipf_ranks popularity_{beginnings};
  std::vector<std::vector<block_number>> beginnings_;
  std::vector<conversation> open_;
  pool_trace trace_;
};

// By request: the index of the next one for the same block.
std::vector<std::uint64_t> next_uses(const pool_trace& trace) {
  constexpr auto never = std::numeric_limits<std::uint64_t>::max();
  std::vector<std::uint64_t> next(trace.requests.size());
  std::vector<std::uint64_t> seen(trace.costs.size(), never);
  for (std::size_t i = trace.requests.size(); i-- > 0;)
    next[i] = std::exchange(seen[trace.requests[i]], i);
  return next;
}

}  // namespace

pool_trace zipf_trace(std::uint64_t requests, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const zipf_ranks ranks(zipf_blocks);
  pool_trace trace;
  trace.costs.assign(zipf_blocks, block_cost);
  trace.requests.reserve(requests);
  for (std::uint64_t i = 0; i < requests; ++i)
    trace.requests.push_back(ranks.draw(random));
  return trace;
}

pool_trace agents_trace(std::uint64_t requests, std::uint64_t seed) {
  return agents(requests, seed).make();
}

hit_counts best_possible(const pool_trace& trace, std::uint64_t capacity_blocks) {
  const auto next = next_uses(trace);
  std::vector<std::uint64_t> due(trace.costs.size(), 0);  // next use of a kept block
  std::set<std::pair<std::uint64_t, block_number>> kept;  // by next use
  hit_counts counts;
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    const block_number block = trace.requests[i];
    if (kept.erase({due[block], block}) != 0) {
      ++counts.hits;
      counts.saved_cost += trace.costs[block];
    }
    due[block] = next[i];
    kept.emplace(next[i], block);
    if (kept.size() > capacity_blocks) kept.erase(std::prev(kept.end()));
  }
  return counts;
}

}  // namespace weft::bench
