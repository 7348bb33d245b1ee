// Reduced keys: the channels that carry most of a document's keys, adjacent tokens merged (KVStar).
//
// All from keys before RoPE, f32 [token][head_dim] of one (layer, KV head): a representation is a function of
// the document's tokens, like the block that it stands for. Channels are kept in RoPE pairs, so that it can
// be rotated to where the block lands.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft::policies::retrieval {

// round(head_dim * dim_ratio / 2) pairs, at least one; two channels each.
std::uint32_t kept_channels(std::uint32_t head_dim, double dim_ratio);

// The pairs (j, j + head_dim/2) with the largest mean |key| over all tokens, ascending: the low channels of
// all pairs, then the high ones. Of equal pairs the lower one is kept.
std::vector<std::uint32_t> choose_channels(std::span<const float> keys, std::uint32_t head_dim,
                                           std::uint32_t channels);

// ceil(block_tokens / token_merge)
std::uint32_t merged_vectors(std::uint32_t block_tokens, std::uint32_t token_merge);

// The mean position of a merged vector's tokens, counted from the block's first token.
float merged_offset(std::uint32_t vector, std::uint32_t block_tokens, std::uint32_t token_merge);

// out: [merged][channel], the means of a block's keys over each `token_merge` adjacent tokens.
void merge_tokens(std::span<const float> block_keys, std::uint32_t head_dim,
                  std::span<const std::uint32_t> channels, std::uint32_t token_merge, std::span<float> out);

// Rotates the kept pairs of a vector to a position, which may lie between two tokens.
void rotate_kept(std::span<float> vector, std::span<const std::uint32_t> channels,
                 std::span<const float> frequencies, float position);

}  // namespace weft::policies::retrieval
