#include "golden_texts.hpp"

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace weft::test {

namespace {

const std::string folder = WEFT_SOURCE_DIR "/tests/fixtures/tokenizers/";

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("no " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

void append_utf8(std::string& text, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xc0 | code >> 6U);
  } else {
    if (code < 0x10000) {
      put(0xe0 | code >> 12U);
    } else {
      put(0xf0 | code >> 18U);
      put(0x80 | (code >> 12U & 0x3fU));
    }
    put(0x80 | (code >> 6U & 0x3fU));
  }
  put(0x80 | (code & 0x3fU));
}

}  // namespace

golden_texts::golden_texts() {
  const auto parsed = nlohmann::json::parse(read(folder + "texts.json"));
  count_ = parsed.at("count").get<std::size_t>();
  fragments_ = parsed.at("fragments").get<std::vector<std::vector<std::string>>>();
  ranges_ = parsed.at("ranges").get<std::vector<std::pair<std::uint32_t, std::uint32_t>>>();
}

std::string golden_texts::text(std::uint64_t number) const {
  split_mix64 random(number);
  std::string built;
  for (std::size_t parts = 1 + random.below(16); parts > 0; --parts) {
    const std::size_t kind = random.below(fragments_.size() + 3);
    if (kind < fragments_.size()) {
      built += fragments_[kind][random.below(fragments_[kind].size())];
      continue;
    }
    const auto [first, last] = ranges_[random.below(ranges_.size())];
    for (std::size_t characters = 1 + random.below(6); characters > 0; --characters)
      append_utf8(built, first + static_cast<std::uint32_t>(random.below(last - first + 1)));
  }
  return built;
}

std::uint64_t fnv1a(std::span<const std::int32_t> ids) {
  std::uint64_t value = 0xcbf29ce484222325ULL;
  for (const auto id : ids)
    for (unsigned byte = 0; byte < 4; ++byte)
      value = (value ^ (static_cast<std::uint32_t>(id) >> 8U * byte & 0xffU)) * 0x100000001b3ULL;
  return value;
}

std::vector<std::uint64_t> golden_hashes(const std::string& name) {
  const std::string bytes = read(folder + name + "/ids.u64");
  std::vector<std::uint64_t> hashes(bytes.size() / 8);
  for (std::size_t i = 0; i < hashes.size() * 8; ++i)
    hashes[i / 8] |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << 8U * (i % 8);
  return hashes;
}

}  // namespace weft::test
