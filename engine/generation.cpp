#include <weft/base/shortest_decimal.hpp>
#include <weft/engine/generation.hpp>
#include <weft/engine/pruned_decoding.hpp>
#include <weft/engine/sparse_context.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace weft::engine {

namespace {

bool is_full(const kv_cache& cache) {
  const kv_shape& shape = cache.shape();
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      if (cache.rows(layer, head) == cache.capacity_rows(layer, head)) return true;
  return false;
}

result<void> check(const sampling& sampled) {
  if (!(sampled.temperature >= 0) || !(sampled.top_p > 0 && sampled.top_p <= 1))
    return fail(errc::invalid_argument,
                "temperature " + shortest_decimal(sampled.temperature) + " and top_p " +
                    shortest_decimal(sampled.top_p) +
                    " are wrong; a temperature is at least 0, top_p above 0 and at most 1");
  return {};
}

}  // namespace

// Shows every session that is sparse, or pruned, its own row of a step.
class decode_batch::session_rows final : public forward_observer {
 public:
  session_rows(std::span<session* const> stepping, std::uint32_t hidden_size)
      : stepping_(stepping), hidden_size_(hidden_size) {}

  bool any() const {
    return std::ranges::any_of(
        stepping_, [](const session* s) { return s->sparse != nullptr || s->pruning != nullptr; });
  }
  shown_parts sees(std::uint32_t) const override {
    return {.input = std::ranges::any_of(stepping_, [](const session* s) { return s->pruning != nullptr; }),
            .queries = std::ranges::any_of(stepping_, [](const session* s) { return s->sparse != nullptr; })};
  }
  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override {
    for (std::uint32_t i = 0; i < rows; ++i)
      if (auto* pruning = stepping_[first_row + i]->pruning; pruning != nullptr)
        pruning->layer_input(layer, 0, 1, normed + std::size_t{i} * hidden_size_);
  }
  bool wants_queries_ahead() const override {
    return std::ranges::any_of(
        stepping_, [](const session* s) { return s->sparse != nullptr && s->sparse->wants_queries_ahead(); });
  }
  void queries_ahead(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    for (std::uint32_t i = 0; i < rows; ++i)
      if (auto* sparse = stepping_[first_row + i]->sparse; sparse != nullptr && sparse->wants_queries_ahead())
        sparse->queries_ahead(layer, 0, 1, q + i * row_stride, row_stride);
  }
  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    for (std::uint32_t i = 0; i < rows; ++i)
      if (auto* sparse = stepping_[first_row + i]->sparse; sparse != nullptr)
        sparse->layer_queries(layer, 0, 1, q + i * row_stride, row_stride);
  }
  std::span<const kernels::kv_run> more_rows(std::uint32_t layer, const kv_cache& cache,
                                             std::uint32_t kv_head) override {
    for (session* s : stepping_)
      if (&s->cache == &cache && s->sparse != nullptr) return s->sparse->more_rows(layer, cache, kv_head);
    return {};
  }

 private:
  std::span<session* const> stepping_;
  std::uint32_t hidden_size_;
};

decode_batch::decode_batch(runner& model) : model_(model) {}

result<generated_token> decode_batch::add(session_id id, kv_cache cache, std::int32_t next_position,
                                          std::span<const float> logits, const generation_options& options,
                                          sparse_context* sparse, pruned_decoding* pruning) {
  if (std::ranges::find(sessions_, id, &session::id) != sessions_.end())
    return fail(errc::invalid_argument, "session " + std::to_string(id) + " is generating already");
  if (logits.size() != model_.config().vocab_size)
    return fail(errc::invalid_argument, "a session starts from the logits of one row");
  if (options.max_tokens == 0)
    return fail(errc::invalid_argument, "an answer of 0 tokens cannot be generated; ask for at least 1");
  if (auto checked = check(options.sampled); !checked) return tl::unexpected(checked.error());
  sessions_.push_back({.id = id,
                       .cache = std::move(cache),
                       .choose = sampler(options.sampled),
                       .stop_tokens = options.stop_tokens,
                       .tokens_left = options.max_tokens,
                       .next_position = next_position,
                       .last_token = 0,
                       .sparse = sparse,
                       .pruning = pruning});
  session& added = sessions_.back();
  accept(added, added.choose.next(logits));
  return generated_token{id, added.last_token, added.state};
}

result<kv_cache> decode_batch::remove(session_id id) {
  const auto found = std::ranges::find(sessions_, id, &session::id);
  if (found == sessions_.end()) return fail(errc::not_found, "there is no session " + std::to_string(id));
  kv_cache cache = std::move(found->cache);
  sessions_.erase(found);
  return cache;
}

void decode_batch::accept(session& s, token_id token) {
  s.last_token = token;
  --s.tokens_left;
  if (std::ranges::find(s.stop_tokens, token) != s.stop_tokens.end())
    s.state = finish::stop_token;
  else if (s.tokens_left == 0)
    s.state = finish::max_tokens;
  else if (is_full(s.cache))
    s.state = finish::cache_full;
}

result<std::span<const generated_token>> decode_batch::step() {
  rows_.clear();
  caches_.clear();
  stepping_.clear();
  tokens_.clear();
  for (session& s : sessions_) {
    if (s.state != finish::running) continue;
    const auto row = static_cast<std::uint32_t>(stepping_.size());
    rows_.add(s.last_token, s.next_position, 0, row);
    rows_.logits_rows.push_back(row);
    caches_.push_back(&s.cache);
    stepping_.push_back(&s);
  }
  const std::size_t vocab = model_.config().vocab_size;
  logits_.resize(stepping_.size() * vocab);
  session_rows shown(stepping_, model_.config().hidden_size);
  for (session* s : stepping_)
    if (s->sparse != nullptr)
      if (auto begun = s->sparse->begin_step(); !begun) return tl::unexpected(begun.error());
  if (auto computed = model_.forward(rows_, caches_, logits_, shown.any() ? &shown : nullptr); !computed)
    return tl::unexpected(computed.error());
  for (session* s : stepping_)
    if (s->sparse != nullptr)
      if (auto ended = s->sparse->end_step(); !ended) return tl::unexpected(ended.error());
  for (std::size_t i = 0; i < stepping_.size(); ++i) {
    session& s = *stepping_[i];
    if (s.pruning != nullptr) s.pruning->end_pass(s.cache, {&s.next_position, 1});
    ++s.next_position;
    accept(s, s.choose.next(std::span(logits_).subspan(i * vocab, vocab)));
    tokens_.push_back({s.id, s.last_token, s.state});
  }
  return std::span<const generated_token>(tokens_);
}

std::size_t decode_batch::active() const {
  return static_cast<std::size_t>(std::ranges::count(sessions_, finish::running, &session::state));
}

}  // namespace weft::engine
