#include <weft/engine/pruned_decoding.hpp>

#include "kv_cache_slots.hpp"

#include <algorithm>

namespace weft::engine {

pruned_decoding::pruned_decoding(runner& model, surrogate& guesser, float least_score,
                                 std::uint32_t window_tokens)
    : layers_(model.config().layers),
      kv_heads_(model.config().kv_heads),
      guesser_(guesser),
      window_(std::size_t{layers_} * kv_heads_, window_tokens, least_score),
      dropped_(std::size_t{layers_} * kv_heads_) {}

void pruned_decoding::start(const policies::score_table& scores) {
  window_.truncate(0);
  std::vector<float> of_token(scores.shape.heads());
  for (std::uint32_t token = 0; token < scores.shape.tokens; ++token) {
    for (std::size_t head = 0; head < of_token.size(); ++head)
      of_token[head] = scores.head(head)[token];
    window_.add(static_cast<std::int32_t>(token), of_token);
  }
}

void pruned_decoding::layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                                  const float* normed) {
  const std::size_t heads = dropped_.size();
  if (layer == 0) scores_.resize((std::size_t{first_row} + rows) * heads);
  guesses_.resize(std::size_t{rows} * kv_heads_);
  guesser_.guess(layer, normed, rows, guesses_);
  for (std::size_t row = 0; row < rows; ++row)
    std::copy_n(guesses_.data() + row * kv_heads_, kv_heads_,
                scores_.data() + (first_row + row) * heads + std::size_t{layer} * kv_heads_);
}

void pruned_decoding::judge(std::int32_t position, std::span<const float> scores) {
  const auto judged = window_.add(position, scores);
  if (!judged) return;
  judged_rows_ += dropped_.size();
  for (std::size_t head = 0; head < dropped_.size(); ++head)
    if (judged->stays[head] == 0) dropped_[head].push_back(judged->position);
}

std::uint64_t pruned_decoding::end_pass(kv_cache& cache, std::span<const std::int32_t> positions) {
  const std::size_t heads = dropped_.size();
  // A row at a position that there was already took it back.
  if (!positions.empty()) window_.truncate(positions.front());
  for (auto& of_head : dropped_)
    of_head.clear();
  const std::size_t unjudged = scores_.size() / heads - positions.size();
  for (std::size_t row = 0; row < positions.size(); ++row)
    judge(positions[row], std::span(scores_).subspan((unjudged + row) * heads, heads));
  std::uint64_t dropped = 0;
  for (std::uint32_t layer = 0; layer < layers_; ++layer)
    for (std::uint32_t head = 0; head < kv_heads_; ++head)
      dropped += drop_rows(cache, layer, head, dropped_[std::size_t{layer} * kv_heads_ + head]);
  dropped_rows_ += dropped;
  return dropped;
}

}  // namespace weft::engine
