// What every way of moving bytes between ranks refuses, and decides, alike.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <span>

namespace weft::collective {

result<void> check_root(unsigned root, unsigned ranks);
result<void> check_parts(std::span<const std::byte> all, std::span<const std::size_t> part_bytes,
                         unsigned ranks);

// How a vector is summed. At once: every rank sends everything to everybody; by parts: a rank each, which are
// then collected.
struct summing {
  bool by_parts = false;
  std::size_t floats_at_a_time = 0;
};
summing summing_of(std::span<const float> values, std::size_t piece_bytes, unsigned ranks);

}  // namespace weft::collective
