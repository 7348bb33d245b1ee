#include <weft/engine/question_queries.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include <algorithm>
#include <numeric>
#include <string>

namespace weft::engine {

namespace {

class last_queries final : public forward_observer {
 public:
  last_queries(std::uint32_t layer, std::uint32_t first_row, std::size_t width, std::size_t rows)
      : layer_(layer), first_row_(first_row), width_(width), found_(rows * width) {}

  shown_parts sees(std::uint32_t layer) const override { return {.queries = layer == layer_}; }
  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    if (layer != layer_) return;
    for (std::uint32_t row = std::max(first_row, first_row_); row < first_row + rows; ++row)
      std::copy_n(q + (row - first_row) * row_stride, width_,
                  found_.begin() + static_cast<std::ptrdiff_t>((row - first_row_) * width_));
  }

  std::vector<float>& found() { return found_; }

 private:
  std::uint32_t layer_;
  std::uint32_t first_row_;
  std::size_t width_;
  std::vector<float> found_;
};

}  // namespace

result<std::vector<float>> question_queries(runner& model, std::span<const token_id> prompt,
                                            std::uint32_t layer, std::uint32_t rows) {
  const auto& config = model.config();
  if (rows == 0 || prompt.size() < rows || layer >= config.layers)
    return fail(errc::invalid_argument, "a question of " + std::to_string(prompt.size()) + " tokens has no " +
                                            std::to_string(rows) + " rows of queries in layer " +
                                            std::to_string(layer));
  const auto tokens = static_cast<std::uint32_t>(prompt.size());
  row_batch batch;
  for (std::uint32_t i = 0; i < tokens; ++i)
    batch.add(prompt[i], static_cast<std::int32_t>(i), 0);
  kv_cache cache(model.cache_shape(), tokens);
  kv_cache* const caches[] = {&cache};
  const std::size_t head_dim = config.head_dim;
  const std::size_t width = config.query_heads * head_dim;
  last_queries seen(layer, tokens - rows, width, rows);
  if (const auto done = model.forward(batch, caches, {}, &seen); !done) return tl::unexpected(done.error());

  std::vector<std::uint32_t> channels(head_dim);
  std::iota(channels.begin(), channels.end(), 0U);
  auto& queries = seen.found();
  for (std::uint32_t row = 0; row < rows; ++row)
    for (std::size_t head = 0; head < config.query_heads; ++head)
      policies::retrieval::rotate_kept(std::span(queries).subspan(row * width + head * head_dim, head_dim),
                                       channels, model.rope_frequencies(),
                                       -static_cast<float>(tokens - rows + row));
  return std::move(queries);
}

}  // namespace weft::engine
