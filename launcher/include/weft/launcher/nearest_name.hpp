// "did you mean": the known name that a mistyped one is closest to.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace weft::launcher {

// The name in `known` with the fewest letters to change, add, drop or swap; none when even that one is too
// far off to be meant.
std::optional<std::string_view> nearest_name(std::string_view typed, std::span<const std::string_view> known);

// "; did you mean `replicas`?", or what there is when nothing is near: "; there are a, b and c".
std::string suggestion(std::string_view typed, std::span<const std::string_view> known);

}  // namespace weft::launcher
