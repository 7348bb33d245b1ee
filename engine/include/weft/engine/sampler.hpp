// From logits to the next token.
#pragma once

#include <weft/engine/model_config.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

struct sampling {
  float temperature = 0;  // 0: greedy
  float top_p = 1;        // the smallest set of likeliest tokens with at least this probability; (0, 1]
  std::uint64_t seed = 0;
};

// Equal seeds and logits give equal tokens on every machine. Ties go to the lower id; NaN is never chosen
// unless there is nothing else.
class sampler {
 public:
  explicit sampler(const sampling& options);

  // Allocates on the first call only.
  token_id next(std::span<const float> logits);

 private:
  struct candidate {
    double weight;
    token_id token;
  };

  token_id draw(double total_weight);
  double uniform();

  sampling options_;
  std::uint64_t random_state_;
  std::vector<candidate> candidates_;
};

// The likeliest token.
token_id greedy_token(std::span<const float> logits);

}  // namespace weft::engine
