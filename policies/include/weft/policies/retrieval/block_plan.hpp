// A context as blocks: which are always attended, and between which sparse decoding chooses.
#pragma once

#include <weft/policies/retrieval/options.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::policies::retrieval {

// A document where it lies in the prompt.
struct context_document {
  std::int32_t start_position = 0;
  std::uint32_t tokens = 0;
};

// A full block: options.block_tokens tokens of one document.
struct context_block {
  std::uint32_t document = 0;
  std::uint32_t first_token = 0;  // within the document
  std::int32_t start_position = 0;

  friend bool operator==(const context_block&, const context_block&) = default;
};

// Blocks are cut from each document's first token; tokens behind its last full block are always attended.
// In the order of the prompt: `first_middle` initial blocks, `middle` ones to choose from, the local ones.
struct block_plan {
  std::vector<context_block> blocks;
  std::uint32_t first_middle = 0;
  std::uint32_t middle = 0;
  std::uint32_t winners = 0;  // of the middle ones

  std::span<const context_block> middle_blocks() const {
    return std::span(blocks).subspan(first_middle, middle);
  }
};

// Documents come by ascending position.
block_plan plan_blocks(std::span<const context_document> documents, const options& chosen);

}  // namespace weft::policies::retrieval
