#include "kvzip.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace weft::engine::scoring {

namespace {

std::vector<token_id> pass_tokens(const scoring_request& request, const repeat_chunk& chunk) {
  const repeat_prompt& prompt = *request.repeat;
  const std::uint32_t body = chunk.first + chunk.skip;
  std::span<const token_id> hint;
  if (prompt.hint_from == hint_source::chunk_head)
    hint = request.tokens.subspan(body, std::min(prompt.hint_tokens, chunk.end - body));
  else if (prompt.hint_from == hint_source::previous_tail && chunk.first > request.chunks.front().first)
    hint = request.tokens.first(chunk.first).last(std::min(prompt.hint_tokens, chunk.first));
  const bool continues = prompt.hint_from == hint_source::previous_tail && !hint.empty();
  std::vector<token_id> tokens =
      continues && !prompt.later_prefix.empty() ? prompt.later_prefix : prompt.prefix;
  tokens.insert(tokens.end(), hint.begin(), hint.end());
  tokens.insert(tokens.end(), prompt.suffix.begin(), prompt.suffix.end());
  const auto repeated = request.tokens.subspan(body, chunk.end - body);
  tokens.insert(tokens.end(), repeated.begin(), repeated.end());
  return tokens;
}

// Sees one pass over one chunk. The hidden states attend to the whole context; the scores' softmax runs over
// the system rows, the chunk and the pass's own rows.
class pass_observer final : public forward_observer {
 public:
  pass_observer(const scored_context& context, bool weighed, std::vector<float>& largest)
      : context_(context), weighed_(weighed), largest_(largest) {}

  void start(const repeat_chunk& chunk, std::uint32_t rows) {
    chunk_ = chunk;
    const std::uint32_t repeated = chunk.end - chunk.first - chunk.skip;
    first_counted_ = context_.request->options.repeated_rows_only ? rows - repeated : 0;
  }

  shown_parts sees(std::uint32_t) const override { return {.input = weighed_}; }
  void layer_input(std::uint32_t /*layer*/, std::uint32_t /*first_row*/, std::uint32_t rows,
                   const float* normed) override {
    if (!weighed_) return;
    const std::size_t width = context_.model->config().hidden_size;
    log_norms_.resize(rows);
    for (std::uint32_t row = 0; row < rows; ++row) {
      const float* h = normed + row * width;
      log_norms_[row] = static_cast<float>(std::log(std::inner_product(h, h + width, h, 0.0)) / 2);
    }
  }

  bool counts_columns() const override { return true; }

  const kernels::column_count* columns_to_count(std::uint32_t layer, std::uint32_t first_row,
                                                std::uint32_t rows) override {
    const std::uint32_t left_out =
        first_counted_ > first_row ? std::min(first_counted_ - first_row, rows) : 0;
    if (left_out == rows) return nullptr;
    const std::uint32_t tokens = context_.tokens();
    count_ = {
        .counted = {{{0, std::min(context_.request->system_rows, chunk_.first)}, {chunk_.first, chunk_.end}}},
        .beside = {tokens, tokens + first_row + rows},
        .first_query = left_out,
        .log_weights = weighed_ ? std::span<const float>(log_norms_) : std::span<const float>{},
        .found = largest_.data() + std::size_t{layer} * context_.model->config().query_heads * tokens,
        .stride = tokens};
    return &count_;
  }

 private:
  const scored_context& context_;
  bool weighed_;
  std::vector<float>& largest_;  // [layer][query_head][token]
  repeat_chunk chunk_;
  std::uint32_t first_counted_ = 0;
  std::vector<float> log_norms_;
  kernels::column_count count_;
};

result<void> run_passes(const scored_context& context, pass_observer& observer) {
  kv_cache* const caches[] = {context.cache};
  const auto end = static_cast<std::int32_t>(context.tokens());
  row_batch batch;
  for (const repeat_chunk& chunk : context.request->chunks) {
    const auto tokens = pass_tokens(*context.request, chunk);
    batch.clear();
    for (const token_id token : tokens)
      batch.add(token, end + static_cast<std::int32_t>(batch.size()), 0);
    observer.start(chunk, static_cast<std::uint32_t>(tokens.size()));
    auto done = context.model->forward(batch, caches, {}, &observer);
    context.cache->truncate(end);
    if (!done) return done;
  }
  return {};
}

// The largest over a group of query heads.
policies::score_table largest_of_groups(const scored_context& context, const std::vector<float>& largest,
                                        const output_gain* gain) {
  policies::score_table scores(context.shape());
  const std::uint32_t heads = scores.shape.kv_heads;
  std::vector<float> norms(context.tokens(), 1.0F);
  for (std::size_t index = 0; index < scores.shape.heads(); ++index) {
    const auto layer = static_cast<std::uint32_t>(index / heads);
    const auto head = static_cast<std::uint32_t>(index % heads);
    const auto values = gain == nullptr ? std::vector<float>{} : values_of(context, layer, head);
    const std::span<float> out = scores.head(index);
    for (std::uint32_t g = 0; g < context.group(); ++g) {
      const std::uint32_t query_head = head * context.group() + g;
      if (gain != nullptr) gain->norms(layer, query_head, values, norms);
      const float* logs =
          largest.data() +
          (std::size_t{layer} * context.model->config().query_heads + query_head) * context.tokens();
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = std::max(out[i], std::exp(logs[i]) * norms[i]);
    }
  }
  return scores;
}

}  // namespace

std::uint32_t longest_pass_rows(const scoring_request& request) {
  std::size_t rows = 0;
  for (const repeat_chunk& chunk : request.chunks)
    rows = std::max(rows, pass_tokens(request, chunk).size());
  return static_cast<std::uint32_t>(rows);
}

result<policies::score_table> score_by_repeating(const scored_context& context, const output_gain* gain) {
  std::vector<float> largest(
      std::size_t{context.cache->shape().layers} * context.model->config().query_heads * context.tokens(),
      -std::numeric_limits<float>::infinity());
  pass_observer observer(context, gain != nullptr, largest);
  if (auto done = run_passes(context, observer); !done) return tl::unexpected(done.error());
  return largest_of_groups(context, largest, gain);
}

}  // namespace weft::engine::scoring
