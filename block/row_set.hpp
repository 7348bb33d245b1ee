// The rows of one layer that bands have laid claim to: proves that no row is in two bands.
#pragma once

#include <weft/block/layout.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::block {

class row_set {
 public:
  row_set() = default;
  row_set(std::uint32_t kv_heads, std::uint32_t tokens);

  // As a new one of that size, in the memory that it has.
  void reset(std::uint32_t kv_heads, std::uint32_t tokens);

  // Adds the rows of one band in this layer: a count per head, then positions by head. False when a position
  // is outside the block, does not ascend within its head or was added before; the set is of no use then.
  // `positions` has as many elements as `counts` sums up to.
  bool add(std::span<const std::uint16_t> counts, std::span<const std::uint16_t> positions);

  void clear();

 private:
  bool add_head(std::uint64_t* claimed, std::span<const std::uint16_t> positions);

  std::uint32_t tokens_ = 0;
  std::uint32_t words_per_head_ = 0;
  std::vector<std::uint64_t> claimed_;  // [kv_head][word], a bit per token
};

}  // namespace weft::block
