// What is done with bytes that may be a manifest.
#pragma once

#include <cstddef>
#include <span>

namespace weft::fuzz {

// Reads `bytes` as they are and with a renewed checksum; what is accepted must say the same after another way
// through bytes. Returns whether a manifest was accepted after resealing. Errors are memory errors, for a
// sanitizer to find, and exceptions.
bool read_as_manifest(std::span<const std::byte> bytes);

}  // namespace weft::fuzz
