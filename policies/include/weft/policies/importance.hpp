// Importance: which method scores the rows of a document, and the scores themselves (docs/importance.md).
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace weft::policies {

enum class importance_policy : std::uint8_t {
  kvzip,               // arXiv 2505.23416: attention from a pass that repeats the context
  kvzip_plus,          // the same, weighed by what the row adds to the hidden state
  kvzap_linear,        // arXiv 2601.07891: a trained guess of ln(kvzip_plus), from the hidden state
  kvzap_mlp,           // the same with a small network
  snapkv,              // arXiv 2404.14469: attention of the last rows
  h2o,                 // arXiv 2306.14048: attention of all rows
  tova,                // arXiv 2401.06104: attention of the last row
  expected_attention,  // arXiv 2510.00636: attention of queries to come, from the statistics of those seen
  knorm,               // arXiv 2406.11430: small keys
  keydiff,             // arXiv 2504.15364: keys unlike the mean key
  streaming_llm,       // arXiv 2309.17453: the first rows and the most recent
  random               // seeded noise
};

std::string_view name_of(importance_policy policy);

// `unsupported` for any other name; the error lists the names.
result<importance_policy> importance_policy_from_name(std::string_view name);
std::span<const importance_policy> all_importance_policies();

// One score per row; higher is kept longer.
struct score_shape {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t tokens = 0;

  std::size_t heads() const { return std::size_t{layers} * kv_heads; }
  std::size_t rows() const { return heads() * tokens; }

  friend bool operator==(const score_shape&, const score_shape&) = default;
};

struct score_table {
  score_shape shape;
  std::vector<float> values;  // [layer][kv_head][token]

  explicit score_table(const score_shape& s = {}) : shape(s), values(s.rows()) {}
  // One (layer, KV head); heads are numbered layer * kv_heads + kv_head.
  std::span<float> head(std::size_t index) {
    return std::span(values).subspan(index * shape.tokens, shape.tokens);
  }
  std::span<const float> head(std::size_t index) const {
    return std::span(values).subspan(index * shape.tokens, shape.tokens);
  }
};

// S_head = max over a head's tokens, [layer][kv_head]: what a head is worth, whatever the text.
std::vector<float> head_scores_of(const score_table& scores);

// `streaming_llm`: the first `sinks` tokens above all others, the others by how recent they are.
score_table recency_scores(const score_shape& shape, std::uint32_t sinks = 4);

// `random`: SplitMix64 from `seed`, its upper 24 bits as a fraction, in the order of the table.
score_table random_scores(const score_shape& shape, std::uint64_t seed);

// `snapkv`, behind the mean over its window's rows: out[i] = max of in[i - width/2 .. i + width/2] that lie
// inside.
void max_pool(std::span<const float> in, std::uint32_t width, std::span<float> out);

}  // namespace weft::policies
