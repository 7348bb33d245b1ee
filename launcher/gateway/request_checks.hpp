// What is refused before a backend sees it, and why, in words for the person who asked.
#pragma once

#include <weft/base/error.hpp>
#include <weft/schema/rpc_types.hpp>

#include <cstdint>

namespace weft::launcher::gateway {

// `text_bytes` as announced; the text is not there yet.
result<void> check_ingest(const schema::ingest_request& request, std::uint64_t text_bytes);
result<void> check_ask(const schema::ask_request& request);
result<void> check_lookup(std::size_t keys);
result<void> check_put(const schema::block_layout& layout, std::uint64_t block_bytes);

}  // namespace weft::launcher::gateway
