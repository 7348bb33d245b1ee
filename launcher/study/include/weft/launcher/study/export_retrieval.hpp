// `weft export retrieval`: how each policy ranks a context's blocks for a question.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/runner.hpp>
#include <weft/launcher/study/export_request.hpp>
#include <weft/policies/retrieval/block_plan.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <vector>

namespace weft::launcher::study {

// The prompt: context and question as one sequence. Documents follow each other behind the system rows; each
// has a segment of its own where their lengths were given.
struct retrieval_request {
  sequence_request prompt;
  std::uint32_t context_tokens = 0;
  std::vector<policies::retrieval::context_document> documents;
  policies::retrieval::options options;
};

// `invalid_argument` names the key that is wrong.
result<retrieval_request> retrieval_request_from(const nlohmann::json& input,
                                                 const engine::model_config& model);

// Queries are those of the prompt's last rows: `stride` of them for kvstar, the very last one for the others.
struct exported_retrieval {
  std::uint32_t blocks = 0, merged = 0, kept = 0, middle = 0, winners_count = 0;
  std::vector<float> representation;        // before RoPE: [layer][kv_head][block][merged][kept]
  std::vector<std::int64_t> channels;       // [layer][document][kv_head][kept]
  std::vector<float> block_scores;          // [layer][middle]
  std::vector<std::int64_t> winners;        // [layer][k], into the middle blocks, best first
  std::vector<std::int64_t> middle_blocks;  // [middle], into all full blocks
  std::vector<float> esa_scores;            // [layer][middle]
  std::vector<float> quest_bounds;          // [layer][query_head][middle]
};
result<exported_retrieval> retrieval_of(engine::runner& model, const retrieval_request& request);

}  // namespace weft::launcher::study
