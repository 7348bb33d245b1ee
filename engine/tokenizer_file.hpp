// tokenizer.json, taken apart and checked.
#pragma once

#include <weft/base/error.hpp>

#include "added_tokens.hpp"
#include "bpe_merges.hpp"
#include "split_pattern.hpp"

#include <array>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

namespace weft::engine {

struct tokenizer_file {
  std::unordered_map<std::string, token_id> vocab;  // in the byte-level alphabet
  std::array<token_id, 256> byte_ids{};
  std::vector<merge_rule> merges;
  std::vector<added_token> added;
  std::vector<split_pattern> splits;  // applied one after the other
  bool whole_words = false;  // a word that is in the vocabulary is not built by merges ("ignore_merges")
  bool nfc = false;
};

// `unsupported`, by name, for what is no byte-level BPE or has a part that weft lacks.
result<tokenizer_file> read_tokenizer_file(const std::filesystem::path& file);

}  // namespace weft::engine
