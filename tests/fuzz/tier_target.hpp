// What is done with bytes that may be a tier's header file: everything a restart does with them.
#pragma once

#include <cstddef>
#include <span>

namespace weft::fuzz {

// Every 128 bytes are the beginning of a slot's header; recovers from them as they are and with renewed
// checksums, then writes into what is left. Returns how many slots were believed after resealing. Throws
// std::logic_error when the books do not add up.
std::size_t read_as_headers(std::span<const std::byte> bytes);

}  // namespace weft::fuzz
