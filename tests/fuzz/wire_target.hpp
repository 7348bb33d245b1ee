// What is done with bytes that a peer sends over the fabric.
#pragma once

#include <cstddef>
#include <span>

namespace weft::fuzz {

// The first byte says what the others are read as: 0 a node address, 1 ... 6 the message of that kind (a
// fetch request with its payload), 7 a row of messages with their sequence numbers. What is accepted must
// read the same after another way through bytes, and a fetch must yield the bytes it asked for. Returns
// whether anything was accepted. Errors are memory errors, for a sanitizer to find, and exceptions.
bool read_as_fabric_bytes(std::span<const std::byte> bytes);

}  // namespace weft::fuzz
