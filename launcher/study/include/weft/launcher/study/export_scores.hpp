// Importance of a sequence's rows for comparison with other implementations.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/runner.hpp>
#include <weft/launcher/study/scores_request.hpp>
#include <weft/policies/budget.hpp>

#include <filesystem>
#include <optional>

namespace weft::launcher::study {

struct exported_scores {
  policies::score_table scores;
  std::optional<policies::kept_rows> kept;  // where the request has a budget
};

// `model_folder` is read where the request leaves the repeat prompt to the model.
result<exported_scores> scores_of(engine::runner& model, const std::filesystem::path& model_folder,
                                  const scores_request& request);

// `scores` out of a file that `weft export scores` wrote.
result<policies::score_table> read_scores(const std::filesystem::path& file);

}  // namespace weft::launcher::study
