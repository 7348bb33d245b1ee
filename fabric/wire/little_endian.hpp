// Integers of the wire, at an offset of a buffer whose size the caller has checked.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>

namespace weft::fabric {

static_assert(std::endian::native == std::endian::little, "the wire is little endian and copied as it is");

template <std::unsigned_integral Integer>
void put(std::byte* at, Integer value) {
  std::memcpy(at, &value, sizeof value);
}

template <std::unsigned_integral Integer>
Integer get(const std::byte* at) {
  Integer value{};
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace weft::fabric
