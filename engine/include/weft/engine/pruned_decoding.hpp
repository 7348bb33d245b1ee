// KVzap while a session runs (arXiv 2601.07891): a surrogate scores the rows of every token that a forward
// pass computes, and rows that score less than a threshold leave the cache when their token leaves the window
// of the most recent ones.
#pragma once

#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/surrogate.hpp>
#include <weft/policies/importance.hpp>
#include <weft/policies/judged_window.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// Of one session. `model` and `guesser` outlive it.
class pruned_decoding final : public forward_observer {
 public:
  static constexpr std::uint32_t default_window_tokens = 128;

  pruned_decoding(runner& model, surrogate& guesser, float least_score,
                  std::uint32_t window_tokens = default_window_tokens);

  // The context's tokens [0, scores.tokens) are in the cache already, kept by their scores but for the last
  // ones: those enter the window.
  void start(const policies::score_table& scores);

  // Is the observer of every pass over the session's cache.
  shown_parts sees(std::uint32_t) const override { return {.input = true}; }
  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override;

  // To be called after each pass with the positions of its rows, or of its last ones (those before are never
  // judged), which ascend: rows that fell through go. Returns how many.
  std::uint64_t end_pass(kv_cache& cache, std::span<const std::int32_t> positions);

  // So far; a token has a row in every (layer, KV head).
  std::uint64_t judged_rows() const { return judged_rows_; }
  std::uint64_t dropped_rows() const { return dropped_rows_; }

 private:
  void judge(std::int32_t position, std::span<const float> scores);

  std::uint32_t layers_, kv_heads_;
  surrogate& guesser_;
  policies::judged_window window_;
  std::vector<float> guesses_;                      // [row][kv_head] of one layer
  std::vector<float> scores_;                       // [row][layer][kv_head] of the pass
  std::vector<std::vector<std::int32_t>> dropped_;  // by [layer][kv_head]: positions, ascending
  std::uint64_t judged_rows_ = 0;
  std::uint64_t dropped_rows_ = 0;
};

}  // namespace weft::engine
