#include "byte_level.hpp"

#include <utf8proc.h>

#include <array>
#include <cstddef>
#include <unordered_map>

namespace weft::engine {

namespace {

struct alphabet {
  std::array<std::string, 256> characters;
  std::unordered_map<utf8proc_int32_t, char> bytes;

  alphabet() {
    utf8proc_int32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      const utf8proc_int32_t code = printable ? byte : next++;
      std::array<utf8proc_uint8_t, 4> encoded{};
      const auto length = utf8proc_encode_char(code, encoded.data());
      characters[static_cast<std::size_t>(byte)].assign(encoded.begin(), encoded.begin() + length);
      bytes[code] = static_cast<char>(byte);
    }
  }
};

const alphabet& byte_alphabet() {
  static const alphabet table;
  return table;
}

utf8proc_ssize_t next_character(std::string_view text, utf8proc_int32_t& code) {
  return utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                          static_cast<utf8proc_ssize_t>(text.size()), &code);
}

}  // namespace

std::string_view character_of(unsigned char byte) {
  return byte_alphabet().characters[byte];
}

std::string to_characters(std::string_view text) {
  std::string mapped;
  mapped.reserve(text.size() * 2);
  for (const char byte : text)
    mapped += character_of(static_cast<unsigned char>(byte));
  return mapped;
}

std::optional<std::string> to_bytes(std::string_view characters) {
  std::string bytes;
  while (!characters.empty()) {
    utf8proc_int32_t code = 0;
    const auto length = next_character(characters, code);
    if (length <= 0) return std::nullopt;
    const auto it = byte_alphabet().bytes.find(code);
    if (it == byte_alphabet().bytes.end()) return std::nullopt;
    bytes.push_back(it->second);
    characters.remove_prefix(static_cast<std::size_t>(length));
  }
  return bytes;
}

std::size_t valid_prefix_bytes(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t code = 0;
    const auto length = next_character(text.substr(at), code);
    if (length <= 0) break;
    at += static_cast<std::size_t>(length);
  }
  return at;
}

std::size_t invalid_prefix_bytes(std::string_view text) {
  std::size_t at = 0;
  utf8proc_int32_t code = 0;
  while (at < text.size() && next_character(text.substr(at), code) <= 0)
    ++at;
  return at;
}

}  // namespace weft::engine
