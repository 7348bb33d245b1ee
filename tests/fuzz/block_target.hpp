// What is done with bytes that may be a block: everything a reader could do with them.
#pragma once

#include <cstddef>
#include <span>

namespace weft::fuzz {

// Parses and verifies `bytes` as they are and with renewed checksums, and reads every row that was declared
// good. Returns whether a block was accepted after resealing. Errors are memory errors, for a sanitizer to
// find, and exceptions.
bool read_as_block(std::span<const std::byte> bytes);

}  // namespace weft::fuzz
