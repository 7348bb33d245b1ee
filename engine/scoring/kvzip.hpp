// kvzip and kvzip_plus: the attention that a pass which repeats the context pays to it.
#pragma once

#include "context_scorer.hpp"
#include "output_gain.hpp"

namespace weft::engine::scoring {

// Rows of the longest pass of a request.
std::uint32_t longest_pass_rows(const scoring_request& request);

// Runs the passes behind a context that lies in its cache, which is afterwards as it was before. `gain`: of
// kvzip_plus, null for kvzip.
result<policies::score_table> score_by_repeating(const scored_context& context, const output_gain* gain);

}  // namespace weft::engine::scoring
