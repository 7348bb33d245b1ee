// What things are called in the pool (docs/keys.md specifies every byte that is hashed). Pure functions: two
// processes always compute the same id, two tenants never.
#pragma once

#include <weft/base/id128.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::policies {

enum class encoding : std::uint8_t {
  prefix = 0,    // attends to everything before it
  document = 1,  // attends to itself only
};

// Whose ids, and of which model.
struct key_scope {
  std::string tenant_salt;  // any bytes; empty: the only tenant
  id128 fingerprint;
};

// Part `index` of the KV heads, which are divided into `count` parts.
struct head_shard {
  std::uint32_t index = 0;
  std::uint32_t count = 1;
};

// How sequences are cut into blocks.
struct block_cut {
  std::uint32_t block_tokens = 64;
  head_shard shard;
};

id128 document_id(const key_scope& scope, std::span<const std::int32_t> tokens);

// `tokens` are those of the block alone.
id128 document_block_key(const key_scope& scope, const block_cut& cut, const id128& document,
                         std::uint32_t block_index, std::span<const std::int32_t> tokens);

// All blocks of a document; the last one may be shorter. Throws std::invalid_argument when block_tokens is 0.
std::vector<id128> document_block_keys(const key_scope& scope, const block_cut& cut, const id128& document,
                                       std::span<const std::int32_t> tokens);

// `parent` is the key of the block before it, zero for the first one.
id128 prefix_block_key(const key_scope& scope, const block_cut& cut, const id128& parent,
                       std::span<const std::int32_t> tokens);

// The chain of a sequence; the last block may be shorter. Keys of a common front are equal.
std::vector<id128> prefix_block_keys(const key_scope& scope, const block_cut& cut,
                                     std::span<const std::int32_t> tokens);

// What the rows of a stored document were scored by, and where its bands end.
struct row_scoring {
  struct parameter {
    std::string name, value;

    friend bool operator==(const parameter&, const parameter&) = default;
  };
  struct band {
    double ratio = 1;  // rows of bands 0..this, of the document's
    std::uint8_t codec = 0;
  };
  std::string policy;
  std::vector<parameter> parameters;  // sorted by name
  std::vector<band> bands;            // ratios ascend
};

// The document of the same tokens whose rows are ordered in bands, or left out: another document, with blocks
// of its own. `document` is the id of the whole one.
id128 scored_document_id(const id128& document, const row_scoring& scoring);

id128 manifest_key(const id128& document);

// What sparse decoding needs besides a document's blocks (docs/sparse-parts.md).
// Its index, by the key of its first block: blocks that are written anew have an index of their own.
id128 sparse_index_key(const id128& first_block);
id128 reduced_keys_key(const id128& block);
// What a document is ranked by for a question.
id128 document_keys_key(const id128& document);

// Of an engine's own block: `name_space` names the engine and its layout.
id128 opaque_key(std::string_view tenant_salt, std::string_view name_space, std::string_view user_key);

}  // namespace weft::policies
