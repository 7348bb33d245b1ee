// Bytes as part of a line.
#pragma once

#include <string>

namespace weft::testing {

std::string to_hexadecimal(const std::string& bytes);
std::string from_hexadecimal(const std::string& text);

}  // namespace weft::testing
