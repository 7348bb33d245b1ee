// What `weft export scores` is asked for: its input file, checked against the model.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/launcher/study/export_request.hpp>
#include <weft/policies/budget.hpp>
#include <weft/policies/importance.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <vector>

namespace weft::launcher::study {

struct scores_request {
  sequence_request sequence;
  policies::importance_policy policy{};
  std::uint32_t system_rows = 0;
  engine::scoring_options options;
  std::optional<engine::repeat_prompt> repeat;  // none: the model's own
  std::vector<engine::repeat_chunk> chunks;     // none: by `chunk_tokens`, or as the model's prompt says
  std::optional<std::uint32_t> chunk_tokens;
  std::optional<policies::budget> budget;
};

// `invalid_argument` names the key that is wrong; `unsupported` an unknown policy or budget.
result<scores_request> scores_request_from(const nlohmann::json& input, const engine::model_config& model);

}  // namespace weft::launcher::study
