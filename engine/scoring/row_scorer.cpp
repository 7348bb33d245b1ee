#include <weft/engine/scoring.hpp>
#include <weft/engine/surrogates.hpp>

#include "context_scorer.hpp"
#include "kvzip.hpp"
#include "output_gain.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace weft::engine {

namespace {

using policies::importance_policy;
using scoring::context_scorer;
using scoring::scored_context;

bool repeats(importance_policy policy) {
  return policy == importance_policy::kvzip || policy == importance_policy::kvzip_plus;
}

result<void> check_chunks(const scoring_request& request) {
  if (request.repeat == nullptr || request.chunks.empty())
    return fail(errc::invalid_argument, "kvzip scores need a repeat prompt and at least one chunk");
  std::uint32_t free = 0;
  for (const repeat_chunk& chunk : request.chunks) {
    if (chunk.first < free || chunk.end <= chunk.first || chunk.end > request.tokens.size() ||
        chunk.skip >= chunk.end - chunk.first)
      return fail(errc::invalid_argument, "chunk [" + std::to_string(chunk.first) + ", " +
                                              std::to_string(chunk.end) +
                                              ") is empty, overlaps the one before it or ends behind the " +
                                              std::to_string(request.tokens.size()) + " tokens");
    free = chunk.end;
  }
  return {};
}

result<void> check(const scoring_request& request, const kv_cache& cache) {
  if (request.tokens.empty()) return fail(errc::invalid_argument, "there are no tokens to score");
  if (!request.segments.empty() && request.segments.size() != request.tokens.size())
    return fail(errc::invalid_argument, std::to_string(request.segments.size()) + " segments for " +
                                            std::to_string(request.tokens.size()) + " tokens");
  if (request.system_rows > request.tokens.size())
    return fail(errc::invalid_argument, std::to_string(request.system_rows) + " system rows of " +
                                            std::to_string(request.tokens.size()) + " tokens");
  if (repeats(request.policy))
    if (auto checked = check_chunks(request); !checked) return checked;
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
      if (cache.rows(layer, head) != 0)
        return fail(errc::invalid_argument, "a context is scored in an empty cache; truncate it first");
  return {};
}

// Shows a forward pass to two observers, to each what it sees.
class both final : public forward_observer {
 public:
  both(forward_observer* first, forward_observer* second) : observers_{first, second} {}

  shown_parts sees(std::uint32_t layer) const override {
    shown_parts all;
    for (const forward_observer* observer : observers_) {
      const shown_parts one = parts_of(observer, layer);
      all = {all.input || one.input, all.kv || one.kv, all.queries || one.queries,
             all.input_there || one.input_there};
    }
    return all;
  }
  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override {
    for (forward_observer* observer : observers_)
      if (parts_of(observer, layer).input) observer->layer_input(layer, first_row, rows, normed);
  }
  void layer_input_there(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                         const float* normed, device::stream& behind) override {
    for (forward_observer* observer : observers_)
      if (parts_of(observer, layer).input_there)
        observer->layer_input_there(layer, first_row, rows, normed, behind);
  }
  void layer_kv(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const std::byte* k,
                const std::byte* v) override {
    for (forward_observer* observer : observers_)
      if (parts_of(observer, layer).kv) observer->layer_kv(layer, first_row, rows, k, v);
  }
  void layer_kv_there(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const std::byte* k,
                      const std::byte* v, device::stream& behind) override {
    for (forward_observer* observer : observers_)
      if (observer != nullptr) observer->layer_kv_there(layer, first_row, rows, k, v, behind);
  }
  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    for (forward_observer* observer : observers_)
      if (parts_of(observer, layer).queries) observer->layer_queries(layer, first_row, rows, q, row_stride);
  }
  // The first one's: who sees a pass beside a policy counts nothing.
  bool counts_columns() const override { return observers_[0] != nullptr && observers_[0]->counts_columns(); }
  const kernels::column_count* columns_to_count(std::uint32_t layer, std::uint32_t first_row,
                                                std::uint32_t rows) override {
    return observers_[0]->columns_to_count(layer, first_row, rows);
  }

 private:
  static shown_parts parts_of(const forward_observer* observer, std::uint32_t layer) {
    return observer != nullptr ? observer->sees(layer) : shown_parts{};
  }

  forward_observer* observers_[2];
};

}  // namespace

std::vector<repeat_chunk> chunks_of(std::uint32_t first, std::uint32_t end, std::uint32_t chunk_tokens) {
  std::vector<repeat_chunk> chunks;
  for (std::uint32_t begin = first; begin < end; begin += chunk_tokens)
    chunks.push_back({begin, std::min(end, begin + chunk_tokens), 0});
  return chunks;
}

std::uint32_t scoring_capacity_rows(const scoring_request& request) {
  const auto tokens = static_cast<std::uint32_t>(request.tokens.size());
  const bool passes = repeats(request.policy) && check_chunks(request);
  return tokens + (passes ? scoring::longest_pass_rows(request) : 0);
}

struct row_scorer::state {
  explicit state(runner& m) : model(m), guessers(m) {}

  // Null for a policy that needs no observer.
  result<std::unique_ptr<context_scorer>> scorer_of(const scored_context& context) {
    switch (context.request->policy) {
      case importance_policy::snapkv:
      case importance_policy::h2o:
      case importance_policy::tova:
        return scoring::make_attention_scorer(context);
      case importance_policy::expected_attention:
        return scoring::make_expected_attention_scorer(context);
      case importance_policy::kvzap_linear:
      case importance_policy::kvzap_mlp:
        return guessing_scorer(context);
      default:
        return nullptr;
    }
  }

  result<std::unique_ptr<context_scorer>> guessing_scorer(const scored_context& context) {
    const auto guesser = guessers.find(*surrogate_kind_of(context.request->policy));
    if (!guesser) return tl::unexpected(guesser.error());
    return scoring::make_surrogate_scorer(context, **guesser);
  }

  const scoring::output_gain* gain_for(importance_policy policy) {
    if (policy != importance_policy::kvzip_plus) return nullptr;
    if (!gain) gain.emplace(model);
    return &*gain;
  }

  // What needs no observer.
  result<policies::score_table> score_rows(const scored_context& context) {
    const scoring_request& request = *context.request;
    switch (request.policy) {
      case importance_policy::kvzip:
      case importance_policy::kvzip_plus:
        return scoring::score_by_repeating(context, gain_for(request.policy));
      case importance_policy::knorm:
        return scoring::key_norm_scores(context);
      case importance_policy::keydiff:
        return scoring::key_difference_scores(context);
      case importance_policy::streaming_llm:
        return policies::recency_scores(context.shape(), request.options.sinks);
      case importance_policy::random:
        return policies::random_scores(context.shape(), request.options.seed);
      default:
        return fail(errc::unsupported, "no scores by " + std::string{policies::name_of(request.policy)} +
                                           " without an observer");
    }
  }

  runner& model;
  std::optional<scoring::output_gain> gain;
  surrogates guessers;
};

row_scorer::row_scorer(runner& model) : state_(std::make_unique<state>(model)) {}
row_scorer::row_scorer(row_scorer&&) noexcept = default;
row_scorer& row_scorer::operator=(row_scorer&&) noexcept = default;
row_scorer::~row_scorer() = default;

result<policies::score_table> row_scorer::score(kv_cache& cache, const scoring_request& request,
                                                forward_observer* also) {
  if (state_->model.shard().ranks > 1)
    return fail(errc::unsupported,
                "rows are scored by all heads, and a rank of a group has some; score on one");
  if (auto checked = check(request, cache); !checked) return tl::unexpected(checked.error());
  scored_context context{.model = &state_->model, .request = &request, .segments = {}, .cache = &cache};
  context.segments.assign(request.segments.begin(), request.segments.end());
  if (context.segments.empty()) context.segments.assign(request.tokens.size(), 1);

  const auto scorer = state_->scorer_of(context);
  if (!scorer) return tl::unexpected(scorer.error());
  both observers(scorer->get(), also);
  row_batch batch;
  for (std::size_t i = 0; i < request.tokens.size(); ++i)
    batch.add(request.tokens[i], static_cast<std::int32_t>(i), context.segments[i]);
  kv_cache* const caches[] = {&cache};
  if (auto done = state_->model.forward(batch, caches, {}, &observers); !done)
    return tl::unexpected(done.error());
  return *scorer ? (*scorer)->finish() : state_->score_rows(context);
}

}  // namespace weft::engine
