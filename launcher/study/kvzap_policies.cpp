#include "kvzap_policies.hpp"

#include <weft/policies/adaptive/predicted_importance.hpp>

#include <algorithm>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace weft::launcher::study {

namespace adaptive = policies::adaptive;

namespace {

// The least score of the best `wanted`; of fewer rows than that all are good enough.
float least_of_best(std::vector<float>& scores, std::size_t wanted) {
  if (wanted >= scores.size()) return -std::numeric_limits<float>::infinity();
  if (wanted == 0) return std::numeric_limits<float>::infinity();
  const auto last = scores.begin() + static_cast<std::ptrdiff_t>(wanted) - 1;
  std::nth_element(scores.begin(), last, scores.end(), std::greater<>());
  return *last;
}

}  // namespace

result<std::unique_ptr<adaptive::cache_policy>> kvzap_policies::policy(engine::surrogate_kind kind,
                                                                       std::uint32_t rows,
                                                                       const engine::prompt_record& record) {
  const auto found = surrogates_.find(kind);
  if (!found) return tl::unexpected(found.error());
  auto* const guesser = *found;
  const auto shape = engine::session_shape_of(model_.config());
  adaptive::predicted_importance_options options;
  options.window = std::min(options.window, rows / 4);
  options.sinks = std::min(options.sinks, rows - options.window);

  std::vector<float> tested, guesses(std::size_t{record.tokens()} * shape.kv_heads);
  const std::uint32_t end = record.tokens() - std::min(record.tokens(), options.window);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    guesser->guess(layer, record.hidden(layer).data(), record.tokens(), guesses);
    if (end > options.sinks)
      tested.insert(tested.end(), guesses.begin() + std::ptrdiff_t{options.sinks} * shape.kv_heads,
                    guesses.begin() + std::ptrdiff_t{end} * shape.kv_heads);
  }
  const std::size_t best = shape.heads() * (rows - options.window - options.sinks);
  options.least_score = least_of_best(tested, best);
  return adaptive::make_predicted_importance(
      shape, options,
      [guesser](std::uint32_t layer, std::uint32_t count, const float* hidden, std::span<float> out) {
        guesser->guess(layer, hidden, count, out);
      });
}

}  // namespace weft::launcher::study
