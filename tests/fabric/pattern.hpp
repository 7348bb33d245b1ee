// What every owner's arena holds in these tests: bytes that tell where they stand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace weft::fabric::testing {

inline std::uint64_t pattern_word(std::uint64_t index) {
  auto x = index + 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

inline std::byte pattern_byte(std::uint64_t offset) {
  return static_cast<std::byte>(pattern_word(offset / 8) >> (offset % 8 * 8));
}

inline void fill_with_pattern(std::span<std::byte> arena) {
  for (std::uint64_t at = 0; at < arena.size(); at += 8) {
    const auto word = pattern_word(at / 8);
    std::memcpy(arena.data() + at, &word, std::min<std::size_t>(8, arena.size() - at));
  }
}

// `bytes` are those that stand at `offset` of a filled arena.
inline bool is_pattern(std::span<const std::byte> bytes, std::uint64_t offset) {
  std::size_t at = 0;
  for (; at < bytes.size() && (offset + at) % 8 != 0; ++at)
    if (bytes[at] != pattern_byte(offset + at)) return false;
  for (; at + 8 <= bytes.size(); at += 8) {
    const auto word = pattern_word((offset + at) / 8);
    if (std::memcmp(bytes.data() + at, &word, 8) != 0) return false;
  }
  for (; at < bytes.size(); ++at)
    if (bytes[at] != pattern_byte(offset + at)) return false;
  return true;
}

inline bool all_equal(std::span<const std::byte> bytes, std::byte value) {
  for (const auto byte : bytes)
    if (byte != value) return false;
  return true;
}

}  // namespace weft::fabric::testing
