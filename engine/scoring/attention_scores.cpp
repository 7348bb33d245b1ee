// snapkv, h2o, tova: the attention that the context's own rows pay to each of its tokens.
#include "context_scorer.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace weft::engine::scoring {

namespace {

using policies::importance_policy;

// Rows whose mask lets them see token i, for every i: those of its segment and of segment 0 from i on.
std::vector<std::uint32_t> observers_of(std::span<const std::int32_t> segments) {
  std::vector<std::uint32_t> seen_by(segments.size());
  std::map<std::int32_t, std::uint32_t> later;
  for (std::size_t i = segments.size(); i-- > 0;) {
    ++later[segments[i]];
    seen_by[i] = later[segments[i]] + (segments[i] == 0 ? 0 : later[0]);
  }
  return seen_by;
}

class attention_scorer final : public context_scorer {
 public:
  explicit attention_scorer(const scored_context& context)
      : context_(context),
        policy_(context.request->policy),
        sums_(std::size_t{context.cache->shape().layers} * context.model->config().query_heads *
              context.tokens()) {
    const std::uint32_t tokens = context.tokens();
    window_ = policy_ == importance_policy::h2o      ? tokens
              : policy_ == importance_policy::snapkv ? std::min(context.request->options.window, tokens)
                                                     : std::min(1U, tokens);
  }

  shown_parts sees(std::uint32_t) const override { return {}; }
  bool counts_columns() const override { return true; }
  const kernels::column_count* columns_to_count(std::uint32_t layer, std::uint32_t first_row,
                                                std::uint32_t rows) override {
    const std::uint32_t end = first_row + rows;
    const std::uint32_t first = std::max(first_row, context_.tokens() - window_);
    if (first >= end) return nullptr;
    count_ = {
        .counted = {{{0, end}, {end, end}}},
        .beside = {end, end},
        .first_query = first - first_row,
        .statistic = kernels::column_statistic::sum,
        .found = sums_.data() + std::size_t{layer} * context_.model->config().query_heads * context_.tokens(),
        .stride = context_.tokens()};
    return &count_;
  }

  result<policies::score_table> finish() override {
    if (policy_ == importance_policy::snapkv) return windowed();
    if (policy_ == importance_policy::tova) return of_last_row();
    return of_all_rows();
  }

 private:
  std::span<const float> sums(std::size_t layer, std::size_t query_head) const {
    const std::size_t tokens = context_.tokens();
    return std::span(sums_).subspan((layer * context_.model->config().query_heads + query_head) * tokens,
                                    tokens);
  }

  // Calls `add(sums of a query head, scores of its KV head)`.
  template <class Add>
  policies::score_table over_groups(const Add& add) const {
    policies::score_table scores(context_.shape());
    const std::size_t group = context_.group();
    for (std::size_t head = 0; head < scores.shape.heads(); ++head)
      for (std::size_t g = 0; g < group; ++g)
        add(sums(head / scores.shape.kv_heads, head % scores.shape.kv_heads * group + g), scores.head(head));
    return scores;
  }

  policies::score_table windowed() const {
    const std::size_t before = context_.tokens() - window_;
    const float share = 1.0F / static_cast<float>(std::size_t{window_} * context_.group());
    std::vector<float> pooled(before);
    auto scores = over_groups([&](std::span<const float> sums, std::span<float> out) {
      policies::max_pool(sums.first(before), context_.request->options.pool, pooled);
      for (std::size_t i = 0; i < before; ++i)
        out[i] += pooled[i] * share;
    });
    for (std::size_t head = 0; head < scores.shape.heads(); ++head)
      std::ranges::fill(scores.head(head).subspan(before), 1.0F);
    return scores;
  }

  policies::score_table of_last_row() const {
    policies::score_table scores(context_.shape());
    const std::size_t query_heads = context_.model->config().query_heads;
    for (std::size_t head = 0; head < scores.shape.heads(); ++head)
      for (std::size_t query_head = 0; query_head < query_heads; ++query_head) {
        const auto sums_of_head = sums(head / scores.shape.kv_heads, query_head);
        const std::span<float> out = scores.head(head);
        for (std::size_t i = 0; i < out.size(); ++i)
          out[i] += sums_of_head[i] / static_cast<float>(query_heads);
      }
    return scores;
  }

  policies::score_table of_all_rows() const {
    const auto seen_by = observers_of(context_.segments);
    const auto group = static_cast<float>(context_.group());
    return over_groups([&](std::span<const float> sums, std::span<float> out) {
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] += sums[i] / (static_cast<float>(seen_by[i]) * group);
    });
  }

  const scored_context& context_;
  importance_policy policy_;
  std::uint32_t window_ = 0;  // last rows whose attention counts
  std::vector<float> sums_;   // [layer][query_head][token]
  kernels::column_count count_;
};

}  // namespace

std::unique_ptr<context_scorer> make_attention_scorer(const scored_context& context) {
  return std::make_unique<attention_scorer>(context);
}

}  // namespace weft::engine::scoring
