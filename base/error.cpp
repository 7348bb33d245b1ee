#include <weft/base/error.hpp>

#include <array>
#include <cstddef>
#include <utility>

namespace weft {

namespace {
constexpr std::array<std::string_view, 13> names{
    "ok",         "invalid_argument",  "not_found",   "corrupt",   "stale",       "out_of_space",
    "overloaded", "deadline_exceeded", "unreachable", "cancelled", "unsupported", "io",
    "internal"};
static_assert(names.size() == static_cast<std::size_t>(errc::internal) + 1);
}  // namespace

std::string_view name_of(errc code) {
  const auto index = static_cast<std::size_t>(code);
  return index < names.size() ? names[index] : "unknown";
}

std::string to_string(const error& e) {
  return std::string{name_of(e.code)} + ": " + e.context;
}

tl::unexpected<error> fail(errc code, std::string context) {
  return tl::unexpected<error>(error{code, std::move(context)});
}

}  // namespace weft
