#include "address.hpp"

#include <charconv>
#include <string_view>

namespace weft::client {
namespace {

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), port);
  return code == std::errc{} && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

}  // namespace

result<void> check_address(const std::string& address) {
  constexpr std::string_view unix_prefix = "unix:";
  if (address.starts_with(unix_prefix) && address.size() > unix_prefix.size()) return {};
  const auto colon = address.rfind(':');
  const bool bracketed =
      address.starts_with('[') && colon != std::string::npos && colon > 0 && address[colon - 1] == ']';
  const bool plain = address.find(':') == colon;
  if (colon == std::string::npos || colon == 0 || !(bracketed || plain) ||
      !is_port(address.substr(colon + 1)))
    return fail(errc::invalid_argument,
                "'" + address + "' is no gateway address; write HOST:PORT, e.g. 127.0.0.1:4242");
  return {};
}

}  // namespace weft::client
