// What one policy needs to see of a context's forward pass, and what it makes of it.
#pragma once

#include <weft/engine/scoring.hpp>
#include <weft/engine/surrogate.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace weft::engine::scoring {

// A request with everything spelled out.
struct scored_context {
  runner* model = nullptr;
  const scoring_request* request = nullptr;
  std::vector<std::int32_t> segments;  // of every token
  kv_cache* cache = nullptr;

  std::uint32_t tokens() const { return static_cast<std::uint32_t>(segments.size()); }
  policies::score_shape shape() const;
  std::uint32_t group() const;  // query heads of a KV head
};

class context_scorer : public forward_observer {
 public:
  // Called when the context lies in its cache, row i of every head being token i.
  virtual result<policies::score_table> finish() = 0;
};

// Values [token][head_dim] of one (layer, KV head) of the context in f32, and the same of its rotated keys.
std::vector<float> values_of(const scored_context& context, std::uint32_t layer, std::uint32_t kv_head);
std::vector<float> keys_of(const scored_context& context, std::uint32_t layer, std::uint32_t kv_head);

std::unique_ptr<context_scorer> make_attention_scorer(const scored_context& context);  // snapkv, h2o, tova
std::unique_ptr<context_scorer> make_expected_attention_scorer(const scored_context& context);
std::unique_ptr<context_scorer> make_surrogate_scorer(const scored_context& context, surrogate& guesser);

policies::score_table key_norm_scores(const scored_context& context);
policies::score_table key_difference_scores(const scored_context& context);

}  // namespace weft::engine::scoring
