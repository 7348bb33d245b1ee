#include "token.hpp"

#include <algorithm>
#include <cstddef>

namespace weft::launcher::gateway {

bool same_token(std::string_view expected, std::string_view shown) {
  if (expected.size() != shown.size()) return false;
  // volatile: the compiler must not leave the loop early.
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    difference = static_cast<unsigned char>(difference | (expected[i] ^ shown[i]));
  return difference == 0;
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "::1" || host == "[::1]" || host.starts_with("unix:")) return true;
  // Four numbers, so that a name such as 127.evil.example is not taken for an address.
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos &&
         std::count(host.begin(), host.end(), '.') == 3;
}

}  // namespace weft::launcher::gateway
