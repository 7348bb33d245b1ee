// Documents as the pool holds them: encoded, cut into blocks, written, parsed and verified.
#pragma once

#include <weft/block/layout.hpp>
#include <weft/engine/document.hpp>
#include <weft/kernels/aligned_buffer.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace weft::engine::test {

// The bands of a block of this shape.
using band_cutter = std::function<std::vector<block::band_rows>(const block::shape&)>;

inline std::vector<block::band_rows> one_band(const block::shape& shape) {
  return {block::all_rows(shape)};
}

// Every third row in band 0, in head 0 also every even one, the others in band 1.
inline std::vector<block::band_rows> two_bands(const block::shape& shape) {
  std::vector<block::band_rows> bands(2);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      std::uint16_t counts[2] = {0, 0};
      for (std::uint32_t token = 0; token < shape.tokens; ++token) {
        const bool important = token % 3 == 0 || (head == 0 && token % 2 == 0);
        auto& band = bands[important ? 0 : 1];
        band.positions.push_back(static_cast<std::uint16_t>(token));
        ++counts[important ? 0 : 1];
      }
      bands[0].counts.push_back(counts[0]);
      bands[1].counts.push_back(counts[1]);
    }
  return bands;
}

class stored_document {
 public:
  stored_document(const encoded_document& document, std::uint32_t block_tokens,
                  const band_cutter& cut = one_band) {
    for (std::uint32_t i = 0; i < document.blocks(block_tokens); ++i) {
      const auto shape = document.block_shape(i, block_tokens);
      const auto bands = cut(shape);
      memory_.emplace_back(block::size_bytes(shape, bands));
      const block::identity id{{1, i}, {2, 3}, 0, 0};
      const std::span bytes(memory_.back().data(), memory_.back().size_bytes());
      REQUIRE(block::write(bytes, id, shape, bands, document.block_source(i, block_tokens)));
      auto view = block::verify(bytes, id);
      REQUIRE(view);
      views_.push_back(std::move(*view));
    }
  }

  std::span<const block::view> blocks() const { return views_; }
  std::vector<std::span<const std::byte>> block_bytes() const {
    std::vector<std::span<const std::byte>> bytes;
    for (const auto& view : views_)
      bytes.push_back(view.bytes());
    return bytes;
  }

 private:
  std::vector<kernels::aligned_buffer> memory_;
  std::vector<block::view> views_;
};

}  // namespace weft::engine::test
