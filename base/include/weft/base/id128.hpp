// 128-bit identities: block keys, document ids, model fingerprints, node ids.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace weft {

struct id128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  friend constexpr auto operator<=>(const id128&, const id128&) = default;
  explicit constexpr operator bool() const { return (high | low) != 0; }
};

// 32 lower-case hexadecimal digits, high half first.
std::string to_hex(const id128& id);

// The inverse of `to_hex`; nothing else is accepted.
std::optional<id128> id128_from_hex(std::string_view text);

}  // namespace weft

template <>
struct std::hash<weft::id128> {
  std::size_t operator()(const weft::id128& id) const noexcept {
    return static_cast<std::size_t>(id.low ^ (id.high * 0x9e3779b97f4a7c15ULL));
  }
};
