// kvzap_linear, kvzap_mlp: what a surrogate makes of the hidden states, while the context is computed; on the
// device that computes it, where there is room.
#include "../device/resident_surrogate.hpp"
#include "context_scorer.hpp"

namespace weft::engine::scoring {

namespace {

class surrogate_scorer final : public context_scorer {
 public:
  surrogate_scorer(const scored_context& context, surrogate& guesser)
      : guesser_(guesser), scores_(context.shape()), there_(guesser.there()) {
    if (there_ == nullptr) return;
    auto pinned = context.model->device()->memory->allocate_pinned(scores_.shape.rows() * sizeof(float),
                                                                   "the guesses of scores");
    if (pinned)
      from_there_ = std::move(*pinned);
    else
      there_ = nullptr;
  }

  shown_parts sees(std::uint32_t) const override {
    return {.input = there_ == nullptr, .input_there = there_ != nullptr};
  }
  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override {
    guesses_.resize(std::size_t{rows} * scores_.shape.kv_heads);
    guesser_.guess(layer, normed, rows, guesses_);
    take(layer, first_row, rows, guesses_.data());
  }
  void layer_input_there(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                         const float* normed, device::stream& behind) override {
    there_->guess(layer, normed, rows, home_of(layer, first_row), behind);
  }

  result<policies::score_table> finish() override {
    for (std::uint32_t layer = 0; there_ != nullptr && layer < scores_.shape.layers; ++layer)
      take(layer, 0, scores_.shape.tokens, home_of(layer, 0));
    return std::move(scores_);
  }

 private:
  float* home_of(std::uint32_t layer, std::uint32_t row) const {
    return reinterpret_cast<float*>(from_there_.data()) +
           (std::size_t{layer} * scores_.shape.tokens + row) * scores_.shape.kv_heads;
  }

  void take(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* guesses) {
    const std::uint32_t heads = scores_.shape.kv_heads;
    for (std::uint32_t head = 0; head < heads; ++head) {
      const auto out = scores_.head(std::size_t{layer} * heads + head).subspan(first_row, rows);
      for (std::size_t row = 0; row < rows; ++row)
        out[row] = guesses[row * heads + head];
    }
  }

  surrogate& guesser_;
  policies::score_table scores_;
  std::vector<float> guesses_;  // [row][kv_head]
  const resident_surrogate* there_;
  device::memory from_there_;  // pinned: [layer][row][kv_head]
};

}  // namespace

std::unique_ptr<context_scorer> make_surrogate_scorer(const scored_context& context, surrogate& guesser) {
  return std::make_unique<surrogate_scorer>(context, guesser);
}

}  // namespace weft::engine::scoring
