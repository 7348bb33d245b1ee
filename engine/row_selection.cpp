#include "row_selection.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <string>

namespace weft::engine {

result<void> check_selection(const row_batch& batch, const row_selection& selection, std::uint32_t layers) {
  const auto& candidates = selection.candidates;
  if (selection.layer >= layers)
    return fail(errc::invalid_argument, "rows cannot be chosen at layer " + std::to_string(selection.layer) +
                                            " of a model with " + std::to_string(layers) + " layers (0 to " +
                                            std::to_string(layers - 1) + ")");
  if (selection.rows > candidates.size())
    return fail(errc::invalid_argument, std::to_string(selection.rows) + " of " +
                                            std::to_string(candidates.size()) + " rows cannot be chosen");
  const bool ascend =
      std::ranges::adjacent_find(candidates, std::ranges::greater_equal()) == candidates.end();
  if (!ascend || (!candidates.empty() && candidates.back() >= batch.size()))
    return fail(errc::invalid_argument, "the rows to choose from must ascend and lie in the batch");
  for (const std::uint32_t row : batch.logits_rows)
    if (std::ranges::binary_search(candidates, row))
      return fail(errc::invalid_argument, "a row that may end halfway cannot give logits");
  return {};
}

std::vector<std::uint32_t> chosen_rows(const row_batch& batch, const row_selection& selection,
                                       std::span<const float> changes) {
  std::vector<std::uint32_t> best = selection.candidates;
  // What is no number would leave the rows without an order.
  const auto change = [&](std::uint32_t row) {
    return std::isnan(changes[row]) ? std::numeric_limits<float>::infinity() : changes[row];
  };
  const auto more_changed = [&](std::uint32_t a, std::uint32_t b) {
    return change(a) != change(b) ? change(a) > change(b) : batch.positions[a] < batch.positions[b];
  };
  std::ranges::nth_element(best, best.begin() + static_cast<std::ptrdiff_t>(selection.rows), more_changed);
  best.resize(selection.rows);
  std::ranges::sort(best);
  std::vector<std::uint32_t> left_out;
  std::ranges::set_difference(selection.candidates, best, std::back_inserter(left_out));
  std::vector<std::uint32_t> rows;
  auto skipped = left_out.begin();
  for (std::uint32_t row = 0; row < batch.size(); ++row)
    if (skipped != left_out.end() && *skipped == row)
      ++skipped;
    else
      rows.push_back(row);
  return rows;
}

row_batch rows_of(const row_batch& batch, std::span<const std::uint32_t> rows) {
  row_batch part;
  for (const std::uint32_t row : rows) {
    if (std::ranges::binary_search(batch.logits_rows, row))
      part.logits_rows.push_back(static_cast<std::uint32_t>(part.size()));
    part.add(batch.tokens[row], batch.positions[row], batch.segments[row], batch.caches[row]);
  }
  return part;
}

}  // namespace weft::engine
