// The link tokens that a model was trained to have behind a document (KVLink, arXiv 2502.16002).
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/model_config.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::engine {

// `tokens` ids behind each of the documents of a prompt; empty lists for 0. A model that names `<|link_0|>`,
// `<|link_1|>`, ... has the same ones behind every document; others have KVLink's, 128011 + tokens * i + j
// for the j-th behind document i, for at most 40 documents. `unsupported`, with the reason, for a model that
// was trained with none or with another number of them.
result<std::vector<std::vector<token_id>>> link_tokens(const model_config& config, std::uint32_t tokens,
                                                       std::size_t documents);

}  // namespace weft::engine
