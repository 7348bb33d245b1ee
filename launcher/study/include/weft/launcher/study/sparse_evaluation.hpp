// Accuracy of answers that are decoded sparsely, and what they moved.
#pragma once

#include <weft/launcher/study/compressed_evaluation.hpp>
#include <weft/launcher/study/evaluation.hpp>
#include <weft/policies/retrieval/options.hpp>

#include <span>
#include <vector>

namespace weft::launcher::study {

// Means are over questions.
struct sparse_cell {
  evaluation_cell answers;
  policies::retrieval::options retrieval;
  double resident_bytes = 0;  // K and V that a session holds while it decodes, its slots included
  double moved_bytes = 0;     // fetched by an answer, the first blocks included
  double late_loads = 0;
  double step_ms = 0;  // median
};

// Documents encoded once and put into the prompt as they are; question and first answer token dense, all
// further ones with only the resident blocks. One cell for each task, in the order in which tasks appear.
// `rows` with importance policies: every combination of it, too. Blocks are ranked by all rows that there
// were, and bring those that are kept. Its stitching and codec are not looked at.
result<std::vector<sparse_cell>> evaluate_sparse(loaded_model& model, std::span<const set_context> contexts,
                                                 const policies::retrieval::options& options,
                                                 const compression& rows,
                                                 const evaluation_progress& progress);

}  // namespace weft::launcher::study
