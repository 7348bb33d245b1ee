#include "row_set.hpp"

#include <algorithm>

namespace weft::block {

row_set::row_set(std::uint32_t kv_heads, std::uint32_t tokens) {
  reset(kv_heads, tokens);
}

void row_set::reset(std::uint32_t kv_heads, std::uint32_t tokens) {
  tokens_ = tokens;
  words_per_head_ = (tokens + 63) / 64;
  claimed_.assign(std::size_t{kv_heads} * words_per_head_, 0);
}

bool row_set::add(std::span<const std::uint16_t> counts, std::span<const std::uint16_t> positions) {
  std::uint64_t* claimed = claimed_.data();
  for (const std::uint16_t count : counts) {
    if (!add_head(claimed, positions.first(count))) return false;
    positions = positions.subspan(count);
    claimed += words_per_head_;
  }
  return true;
}

bool row_set::add_head(std::uint64_t* claimed, std::span<const std::uint16_t> positions) {
  std::int32_t previous = -1;
  for (const std::uint16_t position : positions) {
    const std::uint64_t bit = std::uint64_t{1} << (position % 64);
    if (position <= previous || position >= tokens_ || (claimed[position / 64] & bit) != 0) return false;
    claimed[position / 64] |= bit;
    previous = position;
  }
  return true;
}

void row_set::clear() {
  std::fill(claimed_.begin(), claimed_.end(), 0);
}

}  // namespace weft::block
