#include <weft/block/digest.hpp>
#include <weft/policies/keys.hpp>

#include <algorithm>
#include <stdexcept>

namespace weft::policies {

namespace {

using tokens_view = std::span<const std::int32_t>;

block::digest scoped(std::string_view tag, const key_scope& scope, encoding coding) {
  block::digest fields(tag);
  fields.text(scope.tenant_salt).id(scope.fingerprint).u8(static_cast<std::uint8_t>(coding));
  return fields;
}

id128 block_key(const key_scope& scope, encoding coding, const block_cut& cut, const id128& anchor,
                std::uint32_t index, tokens_view tokens) {
  block::digest fields = scoped("weft.block.1", scope, coding);
  fields.u32(cut.shard.index).u32(cut.shard.count).u32(cut.block_tokens);
  return fields.id(anchor).u32(index).tokens(tokens).finish();
}

// Calls `make_key(index, tokens of the block)` for every block and collects what it returns.
template <class MakeKey>
std::vector<id128> keys_of_blocks(const block_cut& cut, tokens_view tokens, MakeKey make_key) {
  if (cut.block_tokens == 0) throw std::invalid_argument("a block has at least one token");
  std::vector<id128> keys;
  keys.reserve(tokens.size() / cut.block_tokens + 1);
  for (; !tokens.empty(); tokens = tokens.subspan(std::min<std::size_t>(cut.block_tokens, tokens.size())))
    keys.push_back(make_key(static_cast<std::uint32_t>(keys.size()),
                            tokens.first(std::min<std::size_t>(cut.block_tokens, tokens.size()))));
  return keys;
}

}  // namespace

id128 document_id(const key_scope& scope, tokens_view tokens) {
  return scoped("weft.document.1", scope, encoding::document).tokens(tokens).finish();
}

id128 document_block_key(const key_scope& scope, const block_cut& cut, const id128& document,
                         std::uint32_t block_index, tokens_view tokens) {
  return block_key(scope, encoding::document, cut, document, block_index, tokens);
}

std::vector<id128> document_block_keys(const key_scope& scope, const block_cut& cut, const id128& document,
                                       tokens_view tokens) {
  return keys_of_blocks(cut, tokens, [&](std::uint32_t index, tokens_view part) {
    return document_block_key(scope, cut, document, index, part);
  });
}

id128 prefix_block_key(const key_scope& scope, const block_cut& cut, const id128& parent,
                       tokens_view tokens) {
  return block_key(scope, encoding::prefix, cut, parent, 0, tokens);
}

std::vector<id128> prefix_block_keys(const key_scope& scope, const block_cut& cut, tokens_view tokens) {
  id128 parent;
  return keys_of_blocks(cut, tokens, [&](std::uint32_t, tokens_view part) {
    parent = prefix_block_key(scope, cut, parent, part);
    return parent;
  });
}

id128 scored_document_id(const id128& document, const row_scoring& scoring) {
  block::digest fields("weft.scored.1");
  fields.id(document).text(scoring.policy).u32(static_cast<std::uint32_t>(scoring.parameters.size()));
  for (const auto& parameter : scoring.parameters)
    fields.text(parameter.name).text(parameter.value);
  fields.u32(static_cast<std::uint32_t>(scoring.bands.size()));
  for (const auto& band : scoring.bands)
    fields.f64(band.ratio).u8(band.codec);
  return fields.finish();
}

id128 manifest_key(const id128& document) {
  return block::digest("weft.manifest.1").id(document).finish();
}

id128 sparse_index_key(const id128& first_block) {
  return block::digest("weft.sparse.2").id(first_block).finish();
}

id128 reduced_keys_key(const id128& block) {
  return block::digest("weft.reduced.1").id(block).finish();
}

id128 document_keys_key(const id128& document) {
  return block::digest("weft.document_keys.1").id(document).finish();
}

id128 opaque_key(std::string_view tenant_salt, std::string_view name_space, std::string_view user_key) {
  return block::digest("weft.opaque.1").text(tenant_salt).text(name_space).text(user_key).finish();
}

}  // namespace weft::policies
