// ATSKV's books: the rows of every head, their relevance, and what a removal or a return does to them.
#pragma once

#include <weft/policies/adaptive/atskv.hpp>

#include "adaptive/atskv_heads.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace weft::policies::adaptive {

// A token's largest relevance in a layer, for the next layer: by the lower bits of its number.
class token_relevance {
 public:
  void begin(std::uint32_t tokens);
  float of(std::uint32_t token) const { return values_[token & mask_]; }
  void add(std::uint32_t token, float relevance);

 private:
  std::vector<float> values_ = std::vector<float>(1, 0.0F);
  std::uint32_t mask_ = 0;
};

class atskv_books {
 public:
  atskv_books(const session_shape& shape, std::shared_ptr<const relevance_predictor> predictor, bool passive);

  void add_kinds(std::uint32_t first_token, std::span<const std::uint8_t> kinds);
  void add_hidden(std::uint32_t layer, std::uint32_t first_token, std::uint32_t rows, const float* normed);
  void add_rows(std::uint32_t head, std::uint32_t first_token, std::uint32_t rows, const row_values& values);
  // Forgets what was kept for rows that have entered all their heads by now.
  void forget_entered();

  // Stands for all query rows since the layer was shown the last time.
  void add_attention(std::uint32_t layer, std::span<const head_weights> seen);
  // How many those were.
  std::uint32_t rows_shown(std::uint32_t layer) const { return shown_[layer].rows; }
  // The layer's next query row; that of all layers.
  void next_row(std::uint32_t layer) { ++query_rows_[layer]; }
  void next_row();
  void predict(std::uint32_t layer);
  // What each stored row of the head could get of the coming attention; valid until the next call.
  std::span<const float> shares(std::uint32_t kv_head, std::uint32_t head, const passive_logits& known,
                                bool by_row);
  // The largest logarithm of what a stored row could get beside all resident ones, by row.
  std::span<const float> best_logits(std::uint32_t head, const passive_logits& known, bool by_row);
  // Those that are not coming were seen with the shares that were worked out last.
  void predict_stored(std::uint32_t layer);

  void begin_removal() { removed_.clear(); }
  // Slots in any order.
  void remove(std::uint32_t head, std::vector<std::uint32_t>& slots);
  std::span<const removed_row> removed() const { return removed_; }
  // In so many tiers of relevance, each by position: rows of about the same worth share pages.
  void sort_leaving(std::size_t tiers);
  std::span<const std::uint32_t> leaving(std::uint32_t head) const { return heads_[head].leaving.tokens; }
  void store(std::uint32_t head, std::size_t tokens);
  // The page's rows that are coming.
  std::span<const std::uint32_t> take_back(const passive_page& page);
  // How many rows of it were coming.
  std::uint32_t lose(const passive_page& page);

  head_rows& head(std::size_t index) { return heads_[index]; }
  const head_rows& head(std::size_t index) const { return heads_[index]; }
  std::span<const std::uint32_t> tokens(std::size_t head) const { return heads_[head].slots.tokens; }
  std::uint32_t newest() const { return newest_; }
  std::size_t bytes() const;

 private:
  struct projected_tokens {
    std::uint32_t first_token = 0;
    std::vector<float> lines;  // [token][line]
  };

  void add_row(std::uint32_t head, std::uint32_t token, const constant_features& known);
  void enter(std::uint32_t layer);
  void predict_rows(std::uint32_t layer, row_books& rows);

  session_shape shape_;
  std::shared_ptr<const relevance_predictor> predictor_;
  std::size_t lines_;
  bool passive_;
  std::vector<head_rows> heads_;
  struct shown_rows {
    std::uint32_t end = 0;   // behind the query row that was shown last
    std::uint32_t rows = 1;  // that it stood for
  };
  std::vector<std::uint32_t> query_rows_;    // by layer: behind this one
  std::vector<shown_rows> shown_;            // by layer
  std::vector<projected_tokens> projected_;  // by layer: of rows that are entering
  std::uint32_t first_kind_ = 0;
  std::vector<std::uint8_t> kinds_;
  std::uint32_t newest_ = 0;
  std::uint32_t entered_ = UINT32_MAX;  // the layer that `current_` is of
  token_relevance before_, current_;
  std::vector<float> before_of_rows_, weights_;
  std::vector<std::vector<float>> shares_;  // by KV head
  std::vector<std::pair<std::size_t, attention_trace>> coming_;
  std::vector<removed_row> removed_;
  std::vector<std::uint32_t> returned_;
};

}  // namespace weft::policies::adaptive
