// Ranks the blocks of a context for queries: one interface for every policy.
#pragma once

#include <weft/kernels/dtype.hpp>
#include <weft/kernels/products.hpp>
#include <weft/kernels/thread_pool.hpp>
#include <weft/policies/retrieval/block_plan.hpp>
#include <weft/policies/retrieval/options.hpp>
#include <weft/policies/retrieval/shard_scores.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::policies::retrieval {

struct ranked_shape {
  std::uint32_t layers = 0;
  std::uint32_t query_heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  kernels::dtype type = kernels::dtype::bf16;                // what representations are kept in
  kernels::products allowed = kernels::products::automatic;  // of queries and reduced keys
};

// Queries after RoPE, [step][query_head][head_dim], the newest last; steps `step_stride` floats apart.
struct query_group {
  const float* queries = nullptr;
  std::uint32_t steps = 0;
  std::size_t step_stride = 0;
};

// Holds what a policy needs to know about some middle blocks of a context. Not for several threads.
class block_ranker {
 public:
  virtual ~block_ranker() = default;

  // Keys before RoPE of a whole document for one (layer, KV head), f32 [token][head_dim]: before any score.
  virtual void add_keys(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t document,
                        std::span<const float> keys) = 0;

  // Of one held block, where its document's keys were reduced before (representation.hpp): the channels, and
  // [merged][channel] before RoPE. Instead of `add_keys`, by policies that rank by reduced keys.
  virtual void add_reduced(std::uint32_t /*layer*/, std::uint32_t /*kv_head*/, std::uint32_t /*middle_block*/,
                           std::span<const std::uint32_t> /*channels*/, std::span<const float> /*vectors*/) {}
  // Of one held block, its keys before RoPE. Instead of `add_keys`, by the other policies.
  virtual void add_block(std::uint32_t /*layer*/, std::uint32_t /*kv_head*/, std::uint32_t /*middle_block*/,
                         std::span<const float> /*keys*/) {}

  // Scores of its blocks under one layer's queries. kvstar takes all steps of the group, others the newest.
  virtual void score(std::uint32_t layer, const query_group& group, shard_scores& out,
                     kernels::thread_pool& pool) = 0;

  virtual std::size_t allocated_bytes() const = 0;
};

// What a ranker covers: the middle blocks `held` (ascending), or all of them.
struct ranked_context {
  ranked_shape shape;
  std::vector<context_document> documents;
  std::vector<context_block> middle;
  std::vector<std::uint32_t> held;
  std::vector<float> frequencies;  // of RoPE
};

ranked_context whole_context(const ranked_shape& shape, std::span<const context_document> documents,
                             const block_plan& plan, std::span<const float> frequencies);

std::unique_ptr<block_ranker> make_ranker(const options& chosen, ranked_context context);

// The `count` best blocks, ascending. Of equal scores the earlier block wins.
void choose_winners(std::span<const float> scores, std::span<std::uint32_t> out);

}  // namespace weft::policies::retrieval
