// What a question looks for, before anything is known of documents.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/runner.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// One layer's queries of the last `rows` rows of a prompt that stands alone, before RoPE:
// [row][query_head][head_dim]. `invalid_argument` for a prompt with fewer rows or a layer that is not there.
result<std::vector<float>> question_queries(runner& model, std::span<const token_id> prompt,
                                            std::uint32_t layer, std::uint32_t rows);

}  // namespace weft::engine
