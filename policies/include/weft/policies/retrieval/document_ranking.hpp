// Which documents of a pool a question is about: its queries against the keys of whole documents.
//
// One layer is enough, the second: its queries are the first that know what stands before them. For every
// query line (a row of the question, a query head) a document is worth its best product with any of its keys;
// what counts is by how many standard deviations of the pool that lies above the pool's mean, squared and
// summed over the lines. So a line that fits all documents alike decides nothing, and long documents gain
// little by their length. No RoPE on either side: where a document lies says nothing about what is in it.
#pragma once

#include <weft/kernels/block_scores.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::policies::retrieval {

// What documents are ranked by.
struct document_ranking {
  std::uint32_t layer = 1;  // where the model has it
  double dim_ratio = 0.5;   // share of the channels that are kept
  std::uint32_t token_merge = 1;
  std::uint32_t question_tokens = 3;  // the last ones of the question's text, and all that follows
};

// Of a model with so many layers.
std::uint32_t ranking_layer(const document_ranking& how, std::uint32_t layers);

// Rows of a question that rank: `suffix_tokens` stand behind its text.
std::uint32_t ranking_rows(const document_ranking& how, std::size_t question_tokens,
                           std::size_t suffix_tokens);

struct document_keys_shape {
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t vectors = 0;   // of each KV head
  std::uint32_t channels = 0;  // kept
  kernels::dtype type = kernels::dtype::bf16;
};

// The reduced keys of one layer of a document.
class document_keys {
 public:
  explicit document_keys(const document_keys_shape& shape);

  const document_keys_shape& shape() const { return shape_; }
  std::size_t size_bytes() const;

  // `vectors` before RoPE: [vector][channel].
  void set(std::uint32_t kv_head, std::span<const std::uint32_t> channels, std::span<const float> vectors);

  // The best product of every query line: `queries` and `out` are [row][query_head], of queries before RoPE.
  void best_products(std::span<const float> queries, std::uint32_t query_heads, std::span<float> out,
                     kernels::thread_pool& pool) const;

 private:
  document_keys_shape shape_;
  std::vector<std::vector<std::uint32_t>> channels_;  // by KV head
  std::vector<kernels::score_tiles> tiles_;           // likewise
};

// A document's keys for one KV head of the ranking layer, f32 [token][head_dim] before RoPE, reduced.
struct reduced_head {
  std::vector<std::uint32_t> channels;
  std::vector<float> vectors;  // [vector][channel]
};
reduced_head reduce_head(std::span<const float> keys, std::uint32_t head_dim, std::uint32_t channels,
                         std::uint32_t token_merge);

// best: [document][line]. Documents of one pool only are comparable.
std::vector<float> document_scores(std::span<const float> best, std::size_t lines);

// The `count` best documents, best first. Of equal scores the earlier one wins.
std::vector<std::size_t> best_documents(std::span<const float> scores, std::size_t count);

}  // namespace weft::policies::retrieval
