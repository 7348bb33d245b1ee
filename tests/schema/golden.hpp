// Bytes that were released stay readable. A golden file is written once, by running the test with
// WEFT_WRITE_GOLDEN=1 while it is missing, and never changed; a struct that grows gets a new file beside the
// old.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace weft::schema::testing {

std::filesystem::path golden_folder();
bool may_write_golden();

// Hexadecimal, 16 bytes a line.
std::string to_hex_lines(std::span<const std::byte> bytes);
std::vector<std::byte> from_hex_lines(const std::string& text);

std::string read_text(const std::filesystem::path& file);  // throws where there is none
void write_text(const std::filesystem::path& file, const std::string& text);

// The golden bytes of that name; `current` is written where the file is missing and may be written.
std::vector<std::byte> golden_bytes(const std::string& name, std::span<const std::byte> current);

}  // namespace weft::schema::testing
