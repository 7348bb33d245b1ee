// What `weft export` is asked for: its input file, checked against the model.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/policies/stitch.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <vector>

namespace weft::launcher::study {

// A sequence at positions from 0 on. Segments: one for each token, all 0 where none were given.
struct sequence_request {
  std::vector<engine::token_id> tokens;
  std::vector<std::int32_t> segments;
};

struct stitched_request {
  std::vector<engine::token_id> system;
  std::vector<std::vector<engine::token_id>> documents;
  std::vector<engine::token_id> question;
  policies::stitch_policy policy = policies::stitch_policy::none;
  std::vector<std::vector<engine::token_id>> links = {};  // behind each document, or none at all
};

// `invalid_argument` names the key that is wrong; `unsupported` a policy that there is not, or links that are
// not given and that the model was not trained with.
result<sequence_request> sequence_request_from(const nlohmann::json& input,
                                               const engine::model_config& model);
result<stitched_request> stitched_request_from(const nlohmann::json& input,
                                               const engine::model_config& model);

}  // namespace weft::launcher::study
