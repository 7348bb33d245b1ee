// Which rows of a batch go on behind a layer.
#pragma once

#include <weft/engine/runner.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// `invalid_argument` for a layer that the model lacks, candidates that do not ascend in the batch or want
// logits, and more rows than candidates.
result<void> check_selection(const row_batch& batch, const row_selection& selection, std::uint32_t layers);

// All rows that are no candidates, and the candidates that changed most, ascending. `changes` by row.
std::vector<std::uint32_t> chosen_rows(const row_batch& batch, const row_selection& selection,
                                       std::span<const float> changes);

// These rows of a batch as a batch of their own, with the logits that they want.
row_batch rows_of(const row_batch& batch, std::span<const std::uint32_t> rows);

}  // namespace weft::engine
