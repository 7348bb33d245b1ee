// Scores of blocks that lie in several places, and how they become the scores of all.
//
// A softmax over all blocks splits into parts: each place gives, for every query line, what its blocks'
// exponentials sum to and the maximum that they were taken from. Joining them is exact.
#pragma once

#include <weft/kernels/block_scores.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::policies::retrieval {

// The blocks of one place under one layer's queries. Without totals the sums are scores already.
struct shard_scores {
  std::vector<std::uint32_t> blocks;           // numbers among the middle blocks, each in one shard only
  std::vector<float> sums;                     // [line][block]
  std::vector<kernels::softmax_total> totals;  // [line], or empty: one line of plain scores
};

// scores: one for each middle block, the share that it has of each line's softmax, summed over lines. Blocks
// that are in no shard keep what `scores` had.
void merge_shards(std::span<const shard_scores> shards, std::span<float> scores);

}  // namespace weft::policies::retrieval
