// kvzap_linear, kvzap_mlp: what a surrogate makes of the hidden states, while the context is computed.
#include "context_scorer.hpp"

namespace weft::engine::scoring {

namespace {

class surrogate_scorer final : public context_scorer {
 public:
  surrogate_scorer(const scored_context& context, surrogate& guesser)
      : guesser_(guesser), scores_(context.shape()) {}

  shown_parts sees(std::uint32_t) const override { return {.input = true}; }
  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override {
    const std::uint32_t heads = scores_.shape.kv_heads;
    guesses_.resize(std::size_t{rows} * heads);
    guesser_.guess(layer, normed, rows, guesses_);
    for (std::uint32_t head = 0; head < heads; ++head) {
      const auto out = scores_.head(std::size_t{layer} * heads + head).subspan(first_row, rows);
      for (std::size_t row = 0; row < rows; ++row)
        out[row] = guesses_[row * heads + head];
    }
  }

  result<policies::score_table> finish() override { return std::move(scores_); }

 private:
  surrogate& guesser_;
  policies::score_table scores_;
  std::vector<float> guesses_;  // [row][kv_head]
};

}  // namespace

std::unique_ptr<context_scorer> make_surrogate_scorer(const scored_context& context, surrogate& guesser) {
  return std::make_unique<surrogate_scorer>(context, guesser);
}

}  // namespace weft::engine::scoring
