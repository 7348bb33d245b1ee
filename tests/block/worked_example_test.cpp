// The dump in docs/block-format.md is what the library writes, byte for byte: the format cannot change
// unseen.
#include <doctest/doctest.h>

#include "sample_blocks.hpp"

#include <cstdio>
#include <fstream>
#include <string>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {

aligned_bytes example_block() {
  const shape s{.layers = 2, .kv_heads = 1, .head_dim = 2, .tokens = 3, .dtype = kernels::dtype::f32};
  std::vector<float> k, v;
  for (int layer = 0; layer < 2; ++layer)
    for (int token = 0; token < 3; ++token)
      for (int d = 0; d < 2; ++d)
        k.push_back(static_cast<float>(100 * layer + 10 * token + d));
  for (const float value : k)
    v.push_back(-value);
  const std::vector<band_rows> bands{{.counts = {1, 2}, .positions = {1, 0, 2}, .min_score = 0.5f},
                                     {.counts = {2, 1}, .positions = {0, 2, 1}}};
  const identity id{.key = {0x0011223344556677, 0x8899aabbccddeeff},
                    .fingerprint = {0xffeeddccbbaa9988, 0x7766554433221100},
                    .generation = 7,
                    .incarnation = 9};
  aligned_bytes bytes(size_bytes(s, bands));
  const kv_source source{std::as_bytes(std::span{k}).data(), std::as_bytes(std::span{v}).data(), 6, 6, 2};
  REQUIRE(write(bytes.span(), id, s, bands, source));
  return bytes;
}

// "    0000  57 45 46 ...", 16 bytes a line, lines of zeros left out.
std::string dump(std::span<const std::byte> bytes) {
  std::string text;
  for (std::size_t line = 0; line < bytes.size(); line += 16) {
    std::string digits;
    bool zero = true;
    for (std::size_t i = line; i < line + 16; ++i) {
      char digit_pair[4];
      std::snprintf(digit_pair, sizeof digit_pair, " %02x", std::to_integer<unsigned>(bytes[i]));
      digits += digit_pair;
      zero = zero && bytes[i] == std::byte{0};
    }
    char offset[32];
    std::snprintf(offset, sizeof offset, "    %04zx ", line);
    if (!zero) text += offset + digits + "\n";
  }
  return text;
}

std::string documented_dump() {
  std::ifstream page(WEFT_SOURCE_DIR "/docs/block-format.md");
  std::string line, text;
  while (std::getline(page, line))
    if (line.starts_with("    0") && line.size() == 57) text += line + "\n";
  return text;
}

}  // namespace

TEST_CASE("the worked example of the format's page is what is written") {
  const aligned_bytes bytes = example_block();
  CHECK(bytes.span().size() == 256 + 2 * 384);
  const std::string written = dump(bytes.span());
  INFO(written);
  CHECK((written == documented_dump()));
}

TEST_CASE("the worked example reads as the page says") {
  const aligned_bytes bytes = example_block();
  const auto block = view::parse(bytes.span());
  REQUIRE(block);
  REQUIRE(block->verify_bands());
  CHECK(to_hex(block->id().key) == "00112233445566778899aabbccddeeff");
  CHECK(block->min_score(0) == 0.5f);
  CHECK(block->range_of_layer(1, 1) == byte_range{256 + 384 + 192, 192});
  const band_layer rows = block->layer(0, 1);
  CHECK(rows.rows == 2);
  CHECK(rows.positions[1] == 2);
  float key[2];
  std::memcpy(key, rows.k + sizeof key, sizeof key);
  CHECK(key[0] == 120);
  CHECK(key[1] == 121);
}
