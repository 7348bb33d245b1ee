// How KVzip asks a model to repeat a context: in the words of its metadata, or of the paper (arXiv
// 2505.23416) between the model's own chat markers.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/engine/prompt_format.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/engine/tokenizer.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

struct repeat_plan {
  repeat_prompt prompt;
  bool by_document = false;           // every document is a chunk
  std::uint32_t chunk_tokens = 2000;  // otherwise
  std::uint32_t skip_tokens = 0;      // leading tokens of a chunk that are scored but not repeated

  // Chunks of a document that is scored alone, or of tokens [first, end) without documents.
  std::vector<repeat_chunk> chunks(std::uint32_t first, std::uint32_t end) const;
  // Chunks of a context behind its system rows: segments other than 0 are documents.
  std::vector<repeat_chunk> chunks(std::span<const std::int32_t> segments, std::uint32_t system_rows) const;
};

// `invalid_argument` if the metadata's prompt cannot be read.
result<repeat_plan> repeat_plan_for(const model_config& config, const tokenizer& tokens,
                                    const prompt_format& format);

}  // namespace weft::engine
