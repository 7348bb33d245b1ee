// The byte-level alphabet of GPT-2: every byte is one printable character, so that vocabularies are texts.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace weft::engine {

// The character (UTF-8) that stands for a byte.
std::string_view character_of(unsigned char byte);

// The characters that stand for the bytes of `text`.
std::string to_characters(std::string_view text);

// The inverse; none if a character stands for no byte.
std::optional<std::string> to_bytes(std::string_view characters);

// Length of the valid UTF-8 at the beginning of `text`, in bytes.
std::size_t valid_prefix_bytes(std::string_view text);

// Length of what no valid UTF-8 begins in, at the beginning of `text`, in bytes.
std::size_t invalid_prefix_bytes(std::string_view text);

}  // namespace weft::engine
