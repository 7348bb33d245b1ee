// What a document is ranked by for a question, in the pool as an opaque block of its own
// (docs/sparse-parts.md has every byte).
#pragma once

#include <weft/actors/messages.hpp>
#include <weft/base/error.hpp>
#include <weft/engine/document.hpp>
#include <weft/policies/retrieval/document_ranking.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::actors {

// Of longer documents more adjacent tokens are merged, so that this is enough.
inline constexpr std::size_t most_document_keys_bytes = std::size_t{4} << 20;

struct stored_document_keys {
  std::uint32_t layer = 0;
  policies::retrieval::document_keys keys;
};

std::vector<std::byte> document_keys_bytes(const engine::encoded_document& document);

// `corrupt` for bytes that contradict themselves.
result<stored_document_keys> document_keys_from_bytes(std::span<const std::byte> bytes);

// That one question of how well they fit may name, with so many products of each: the answer is one message.
inline std::size_t most_documents_ranked_at_once(std::size_t products) {
  return std::max<std::size_t>(1, max_mailbox_message_bytes / 2 / sizeof(float) / products);
}

inline constexpr std::uint64_t document_keys_tag = 0x3179656b73636f64;  // "docskey1", little endian

}  // namespace weft::actors
