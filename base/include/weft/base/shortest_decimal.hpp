// Numbers in words for people: as they would write them.
#pragma once

#include <charconv>
#include <concepts>
#include <string>

namespace weft {

// The fewest digits that are read as the same number: "0", "0.3", "1e-07".
template <std::floating_point Number>
std::string shortest_decimal(Number number) {
  char digits[64];
  return {digits, std::to_chars(digits, digits + sizeof digits, number).ptr};
}

}  // namespace weft
