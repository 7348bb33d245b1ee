#include <weft/kernels/flush_to_zero.hpp>
#include <weft/policies/retrieval/shard_scores.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace weft::policies::retrieval {

namespace {

kernels::softmax_total total_of(std::span<const shard_scores> shards, std::size_t line) {
  kernels::softmax_total total;
  for (const shard_scores& shard : shards)
    if (line < shard.totals.size()) total.maximum = std::max(total.maximum, shard.totals[line].maximum);
  for (const shard_scores& shard : shards)
    if (line < shard.totals.size())
      total.sum += shard.totals[line].sum * std::exp2(shard.totals[line].maximum - total.maximum);
  return total;
}

void add_line(const shard_scores& shard, std::size_t line, float factor, std::span<float> scores) {
  const float* sums = shard.sums.data() + line * shard.blocks.size();
  for (std::size_t i = 0; i < shard.blocks.size(); ++i)
    scores[shard.blocks[i]] += sums[i] * factor;
}

}  // namespace

void merge_shards(std::span<const shard_scores> shards, std::span<float> scores) {
  const kernels::flush_to_zero small;
  std::size_t lines = 0;
  for (const shard_scores& shard : shards) {
    lines = std::max(lines, shard.totals.size());
    for (const std::uint32_t block : shard.blocks)
      scores[block] = 0;
    if (shard.totals.empty()) add_line(shard, 0, 1, scores);
  }
  for (std::size_t line = 0; line < lines; ++line) {
    const auto total = total_of(shards, line);
    if (!(total.sum > 0)) continue;
    for (const shard_scores& shard : shards)
      if (line < shard.totals.size())
        add_line(shard, line, std::exp2(shard.totals[line].maximum - total.maximum) / total.sum, scores);
  }
}

}  // namespace weft::policies::retrieval
