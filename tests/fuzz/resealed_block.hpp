// Renews the checksums of damaged blocks, so that tests reach the checks behind them.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace weft::fuzz {

template <class T>
T load(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
  return value;
}

inline void store_checksum(std::span<std::byte> bytes, std::size_t offset, std::span<const std::byte> of) {
  const std::uint64_t checksum = XXH3_64bits(of.data(), of.size());
  std::memcpy(bytes.subspan(offset, sizeof checksum).data(), &checksum, sizeof checksum);
}

// Follows docs/block-format.md, not the library. Bands whose range is outside `block` keep their checksum.
inline void reseal(std::span<std::byte> block) {
  if (block.size() < 128) return;
  const std::size_t bands = std::min<std::size_t>(load<std::uint16_t>(block, 106), (block.size() - 128) / 32);
  for (std::size_t band = 0; band < bands; ++band) {
    const std::size_t entry = 128 + 32 * band;
    const auto offset = load<std::uint64_t>(block, entry);
    const auto bytes = load<std::uint64_t>(block, entry + 8);
    if (offset <= block.size() && bytes <= block.size() - offset)
      store_checksum(block, entry + 16, block.subspan(offset, bytes));
  }
  const std::size_t header_bytes = load<std::uint32_t>(block, 20);
  if (header_bytes >= 16 && header_bytes <= block.size())
    store_checksum(block, 8, block.subspan(16, header_bytes - 16));
}

}  // namespace weft::fuzz
