// What is refused before it travels, and again where it arrives, in words for the person who asked.
// All errors are `invalid_argument`.
#pragma once

#include <weft/base/error.hpp>
#include <weft/schema/rpc_types.hpp>

#include <cstdint>

namespace weft::schema {

// `text_bytes` as announced; the text is not there yet.
result<void> check_ingest(const ingest_request& request, std::uint64_t text_bytes);
result<void> check_ask(const ask_request& request);
result<void> check_lookup(std::size_t keys);
result<void> check_put(const block_layout& layout, std::uint64_t block_bytes);

}  // namespace weft::schema
