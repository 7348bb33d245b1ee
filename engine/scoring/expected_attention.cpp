// expected_attention: queries to come are taken for Gaussian, with the mean and covariance of those seen
// before RoPE; the mean of exp(q k) over them has a closed form.
#include <weft/kernels/rope.hpp>

#include "context_scorer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace weft::engine::scoring {

namespace {

// Sums over the queries of one head, for their mean and covariance.
struct query_sums {
  std::vector<double> first;   // [head_dim]
  std::vector<double> second;  // [head_dim][head_dim], upper triangle
};

// The mean of the rotations over some positions: pair j is turned and shrunk by (cosine[j], sine[j]).
struct mean_rotation {
  std::vector<double> cosine, sine;

  mean_rotation(std::span<const float> frequencies, std::uint32_t first, std::uint32_t positions)
      : cosine(frequencies.size()), sine(frequencies.size()) {
    for (std::size_t j = 0; j < frequencies.size(); ++j)
      for (std::uint32_t i = 0; i < positions; ++i) {
        const float angle = frequencies[j] * static_cast<float>(first + i);
        cosine[j] += std::cos(double{angle}) / positions;
        sine[j] += std::sin(double{angle}) / positions;
      }
  }

  // x[j], x[j + half] as RoPE pairs them, `stride` apart from element to element.
  void apply(double* x, std::size_t stride) const {
    const std::size_t half = cosine.size();
    for (std::size_t j = 0; j < half; ++j) {
      const double low = x[j * stride];
      const double high = x[(j + half) * stride];
      x[j * stride] = low * cosine[j] - high * sine[j];
      x[(j + half) * stride] = high * cosine[j] + low * sine[j];
    }
  }
};

// Mean and covariance of the queries to come, as attention meets them.
struct query_statistics {
  std::vector<double> mean;        // [head_dim]
  std::vector<double> covariance;  // [head_dim][head_dim]
};

query_statistics statistics_of(const query_sums& sums, std::uint32_t rows, const mean_rotation& future) {
  const std::size_t width = sums.first.size();
  query_statistics found{std::vector<double>(width, 0.0), std::vector<double>(width * width, 0.0)};
  if (rows == 0) return found;
  for (std::size_t d = 0; d < width; ++d)
    found.mean[d] = sums.first[d] / rows;
  for (std::size_t a = 0; a < width; ++a)
    for (std::size_t b = a; b < width; ++b)
      found.covariance[a * width + b] = found.covariance[b * width + a] =
          sums.second[a * width + b] / rows - found.mean[a] * found.mean[b];
  future.apply(found.mean.data(), 1);
  for (std::size_t a = 0; a < width; ++a)
    future.apply(found.covariance.data() + a * width, 1);
  for (std::size_t b = 0; b < width; ++b)
    future.apply(found.covariance.data() + b, width);
  return found;
}

class expected_attention_scorer final : public context_scorer {
 public:
  explicit expected_attention_scorer(const scored_context& context)
      : context_(context), sinks_(std::min(context.request->options.sinks, context.tokens())) {
    const std::size_t width = context.cache->shape().head_dim;
    sums_.resize(std::size_t{context.cache->shape().layers} * context.model->config().query_heads);
    for (query_sums& sums : sums_)
      sums = {std::vector<double>(width, 0.0), std::vector<double>(width * width, 0.0)};
  }

  shown_parts sees(std::uint32_t) const override { return {.queries = true}; }
  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    const std::uint32_t first = std::max(first_row, sinks_);
    if (first >= first_row + rows) return;
    if (layer == 0)
      rotations_.assign(context_.model->rope_frequencies(), static_cast<std::int32_t>(first),
                        first_row + rows - first);
    const std::size_t query_heads = context_.model->config().query_heads;
    const std::size_t width = context_.cache->shape().head_dim;
    context_.model->threads().parallel_for(query_heads, [&](std::size_t head, unsigned) {
      for (std::uint32_t row = first; row < first_row + rows; ++row)
        add(q + (row - first_row) * row_stride + head * width, row - first,
            sums_[layer * query_heads + head]);
    });
  }

  result<policies::score_table> finish() override {
    policies::score_table scores(context_.shape());
    const mean_rotation future(context_.model->rope_frequencies(), context_.tokens(),
                               context_.request->options.future_tokens);
    context_.model->threads().parallel_for(scores.shape.heads(), [&](std::size_t index, unsigned) {
      score_head(index, future, scores.head(index));
    });
    protect_sinks(scores);
    return scores;
  }

 private:
  // Takes the rotation off a query and adds it to its head's sums.
  void add(const float* q, std::uint32_t entry, query_sums& sums) const {
    const std::size_t width = sums.first.size();
    const std::size_t half = width / 2;
    const float* cosines = rotations_.cosines(entry);
    const float* sines = rotations_.sines(entry);
    std::vector<double> x(width);
    for (std::size_t j = 0; j < half; ++j) {
      x[j] = double{q[j]} * cosines[j] + double{q[j + half]} * sines[j];
      x[j + half] = double{q[j + half]} * cosines[j] - double{q[j]} * sines[j];
    }
    for (std::size_t a = 0; a < width; ++a) {
      sums.first[a] += x[a];
      double* row = sums.second.data() + a * width;
      for (std::size_t b = a; b < width; ++b)
        row[b] += x[a] * x[b];
    }
  }

  void score_head(std::size_t index, const mean_rotation& future, std::span<float> out) const {
    const std::uint32_t heads = context_.cache->shape().kv_heads;
    const auto layer = static_cast<std::uint32_t>(index / heads);
    const auto head = static_cast<std::uint32_t>(index % heads);
    const auto keys = keys_of(context_, layer, head);
    const std::uint32_t rows = context_.tokens() - sinks_;
    std::vector<double> attention(out.size(), 0.0);
    for (std::uint32_t g = 0; g < context_.group(); ++g) {
      const auto& sums = sums_[std::size_t{layer} * context_.model->config().query_heads +
                               std::size_t{head} * context_.group() + g];
      add_expected(statistics_of(sums, rows, future), keys, attention);
    }
    weigh_by_values(values_of(context_, layer, head), attention, out);
  }

  void add_expected(const query_statistics& queries, const std::vector<float>& keys,
                    std::vector<double>& attention) const {
    const std::size_t width = queries.mean.size();
    const double scale = 1.0 / std::sqrt(static_cast<double>(width));
    std::vector<double> logits(attention.size(), 0.0);
    double largest = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const float* key = keys.data() + i * width;
      double linear = 0;
      double quadratic = 0;
      for (std::size_t a = 0; a < width; ++a) {
        linear += queries.mean[a] * key[a];
        const double* row = queries.covariance.data() + a * width;
        double product = 0;
        for (std::size_t b = 0; b < width; ++b)
          product += row[b] * key[b];
        quadratic += product * key[a];
      }
      logits[i] = linear * scale + quadratic * scale * scale / 2;
      largest = std::max(largest, logits[i]);
    }
    double sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i)
      sum += logits[i] = std::exp(logits[i] - largest);
    for (std::size_t i = 0; i < logits.size(); ++i)
      attention[i] += logits[i] / sum / context_.group();
  }

  void weigh_by_values(const std::vector<float>& values, const std::vector<double>& attention,
                       std::span<float> out) const {
    constexpr double floor = 0.02;
    const std::size_t width = context_.cache->shape().head_dim;
    for (std::size_t i = 0; i < out.size(); ++i) {
      double square = 0;
      for (std::size_t d = 0; d < width; ++d)
        square += double{values[i * width + d]} * values[i * width + d];
      out[i] = static_cast<float>((attention[i] + floor) * std::sqrt(square));
    }
  }

  void protect_sinks(policies::score_table& scores) const {
    const float largest = std::ranges::max(scores.values);
    for (std::size_t head = 0; head < scores.shape.heads(); ++head)
      std::ranges::fill(scores.head(head).first(sinks_), largest);
  }

  const scored_context& context_;
  std::uint32_t sinks_;
  std::vector<query_sums> sums_;  // [layer][query_head]
  kernels::rotation_table rotations_;
};

}  // namespace

std::unique_ptr<context_scorer> make_expected_attention_scorer(const scored_context& context) {
  return std::make_unique<expected_attention_scorer>(context);
}

}  // namespace weft::engine::scoring
