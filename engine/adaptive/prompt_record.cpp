#include <weft/engine/adaptive/session.hpp>
#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/attention_weights.hpp>

#include <algorithm>
#include <numeric>
#include <string>

namespace weft::engine {

namespace adaptive = policies::adaptive;

adaptive::session_shape session_shape_of(const model_config& config) {
  return {.layers = config.layers,
          .kv_heads = config.kv_heads,
          .query_heads = config.query_heads,
          .head_dim = config.head_dim,
          .hidden_size = config.hidden_size};
}

prompt_record::prompt_record(runner& model, std::uint32_t tokens, kv_cache& whole, const options& wanted)
    : model_(model),
      whole_(whole),
      tokens_(tokens),
      last_rows_(std::min(tokens, wanted.last_rows)),
      query_width_(std::size_t{model.config().query_heads} * model.config().head_dim),
      queries_(std::size_t{model.config().layers} * last_rows_ * query_width_),
      all_sums_(wanted.all_sums ? std::size_t{model.config().layers} * model.config().query_heads * tokens
                                : 0),
      hidden_(wanted.hidden ? std::size_t{model.config().layers} * tokens * model.config().hidden_size : 0),
      positions_(tokens),
      segments_(tokens, 0) {
  std::iota(positions_.begin(), positions_.end(), 0);
}

void prompt_record::layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                                const float* normed) {
  if (hidden_.empty()) return;
  const std::size_t width = model_.config().hidden_size;
  std::copy_n(
      normed, rows * width,
      hidden_.begin() + static_cast<std::ptrdiff_t>((std::size_t{layer} * tokens_ + first_row) * width));
}

void prompt_record::layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                                  const float* q, std::size_t row_stride) {
  for (std::uint32_t row = first_row; row < first_row + rows; ++row)
    if (row + last_rows_ >= tokens_)
      std::copy_n(q + (row - first_row) * row_stride, query_width_,
                  queries_.begin() + static_cast<std::ptrdiff_t>(
                                         (layer * last_rows_ + row + last_rows_ - tokens_) * query_width_));
  if (all_sums_.empty()) return;
  const auto& shape = model_.attention();
  std::vector<kernels::prefill_kv_head> heads;
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
    heads.push_back({whole_.k(layer, head), whole_.v(layer, head), first_row + rows,
                     whole_.positions(layer, head), whole_.segments(layer, head)});
  const kernels::prefill_queries queries{q, row_stride, rows, positions_.data() + first_row,
                                         segments_.data() + first_row};
  log_sums_.resize(std::size_t{rows} * shape.query_heads);
  kernels::attention_log_sums(shape, queries, heads, false, log_sums_, scratch_, model_.threads());
  kernels::attention_columns(shape, queries, heads, log_sums_, kernels::column_statistic::sum,
                             all_sums_.data() + std::size_t{layer} * shape.query_heads * tokens_, tokens_,
                             scratch_, model_.threads());
}

void prompt_record::weights_of(std::uint32_t layer, std::uint32_t rows_before_last,
                               std::vector<float>& out) const {
  const auto& shape = model_.attention();
  const std::size_t group = shape.query_heads / shape.kv_heads;
  const std::uint32_t seen = tokens_ - rows_before_last;
  const float* const q =
      queries_.data() + (std::size_t{layer} * last_rows_ + last_rows_ - 1 - rows_before_last) * query_width_;
  std::vector<float> weights(shape.query_heads * std::size_t{seen});
  std::vector<kernels::kv_run> runs;
  std::vector<kernels::weighed_head> heads;
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
    runs.push_back({whole_.k(layer, head), nullptr, seen});
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
    heads.push_back({q + head * group * shape.head_dim, std::span(runs).subspan(head, 1),
                     weights.data() + head * group * seen, nullptr});
  kernels::attention_weights(shape, heads, model_.threads());
  out.assign(std::size_t{shape.query_heads} * tokens_, 0.0F);
  for (std::size_t line = 0; line < shape.query_heads; ++line)
    std::copy_n(weights.begin() + static_cast<std::ptrdiff_t>(line * seen), seen,
                out.begin() + static_cast<std::ptrdiff_t>(line * tokens_));
}

result<std::vector<float>> prompt_record::sums(std::uint32_t window) const {
  if (window == adaptive::all_rows) {
    if (all_sums_.empty())
      return fail(errc::unsupported, "the prompt's attention was not recorded for all rows; record it");
    return all_sums_;
  }
  if (window > last_rows_ && last_rows_ < tokens_)
    return fail(errc::unsupported, "a window of " + std::to_string(window) + " rows is longer than the " +
                                       std::to_string(last_rows_) + " that are recorded");
  const auto& shape = model_.attention();
  std::vector<float> sums(std::size_t{shape.query_heads} * whole_.shape().layers * tokens_, 0.0F);
  std::vector<float> weights;
  for (std::uint32_t layer = 0; layer < whole_.shape().layers; ++layer)
    for (std::uint32_t row = 0; row < std::min(window, last_rows_); ++row) {
      weights_of(layer, row, weights);
      const std::size_t first = std::size_t{layer} * shape.query_heads * tokens_;
      for (std::size_t i = 0; i < weights.size(); ++i)
        sums[first + i] += weights[i];
    }
  return sums;
}

std::span<const float> prompt_record::hidden(std::uint32_t layer) const {
  if (hidden_.empty()) return {};
  const std::size_t size = std::size_t{tokens_} * model_.config().hidden_size;
  return std::span(hidden_).subspan(layer * size, size);
}

}  // namespace weft::engine
