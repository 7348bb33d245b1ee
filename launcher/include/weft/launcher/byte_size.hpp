// Sizes as people write them: "256 MiB".
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::launcher {

// A number, decimals allowed, and B, KiB, MiB, GiB or TiB. `invalid_argument` names what is wrong with
// `text`.
result<std::uint64_t> parse_byte_size(std::string_view text);

// "3.5 MiB": the largest unit that leaves at least 1 in front, at most one decimal.
std::string format_bytes(std::uint64_t bytes);

}  // namespace weft::launcher
