#include "golden.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace weft::schema::testing {

std::filesystem::path golden_folder() {
  return std::filesystem::path(WEFT_SOURCE_DIR) / "tests" / "schema" / "golden";
}

bool may_write_golden() {
  const char* wish = std::getenv("WEFT_WRITE_GOLDEN");
  return wish != nullptr && std::string(wish) == "1";
}

std::string to_hex_lines(std::span<const std::byte> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto value = std::to_integer<unsigned>(bytes[i]);
    text += digits[value >> 4];
    text += digits[value & 15];
    text += i % 16 == 15 || i + 1 == bytes.size() ? '\n' : ' ';
  }
  return text;
}

std::vector<std::byte> from_hex_lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::byte> bytes;
  for (std::string pair; in >> pair;)
    bytes.push_back(static_cast<std::byte>(std::stoul(pair, nullptr, 16)));
  return bytes;
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in)
    throw std::runtime_error("cannot read " + file.string() + "; WEFT_WRITE_GOLDEN=1 writes missing files");
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  if (!(out << text)) throw std::runtime_error("cannot write " + file.string());
}

std::vector<std::byte> golden_bytes(const std::string& name, std::span<const std::byte> current) {
  const auto file = golden_folder() / (name + ".hex");
  if (!std::filesystem::exists(file) && may_write_golden()) write_text(file, to_hex_lines(current));
  return from_hex_lines(read_text(file));
}

}  // namespace weft::schema::testing
