#include "hexadecimal.hpp"

namespace weft::testing {

namespace {
int nibble(char digit) {
  return digit <= '9' ? digit - '0' : digit - 'a' + 10;
}
}  // namespace

std::string to_hexadecimal(const std::string& bytes) {
  constexpr auto* digits = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += digits[static_cast<unsigned char>(c) >> 4U];
    out += digits[static_cast<unsigned char>(c) & 15U];
  }
  return out;
}

std::string from_hexadecimal(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out += static_cast<char>(nibble(text[i]) * 16 + nibble(text[i + 1]));
  return out;
}

}  // namespace weft::testing
