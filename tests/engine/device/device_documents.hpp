// Blocks of documents, in places as a node has them.
#pragma once

#include <weft/engine/banded_document.hpp>
#include <weft/engine/document_blocks.hpp>
#include <weft/kernels/aligned_buffer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

namespace weft::engine::test {

class placed_blocks {
 public:
  placed_blocks(const banded_document& document, std::uint32_t block_tokens) {
    for (std::uint32_t i = 0; i < document.rows().blocks(block_tokens); ++i) {
      auto bands = document.block_bands(i, block_tokens);
      const auto bytes = block::size_bytes(document.rows().block_shape(i, block_tokens), bands);
      auto& memory = memory_.emplace_back(bytes);
      std::memset(memory.data(), 0xA5, bytes);
      places_.push_back({.index = i,
                         .id = {{1, i}, {2, 3}, 0, 0},
                         .bands = std::move(bands),
                         .out = {memory.data(), bytes}});
    }
  }

  std::span<const block_place> places() const { return places_; }
  bool same_bytes(const placed_blocks& other) const {
    return std::ranges::equal(places_, other.places_, [](const block_place& a, const block_place& b) {
      return std::ranges::equal(a.out, b.out);
    });
  }

 private:
  std::vector<kernels::aligned_buffer> memory_;
  std::vector<block_place> places_;
};

// What the host writes of its own copy of the rows.
inline placed_blocks written_here(const banded_document& document, std::uint32_t block_tokens) {
  placed_blocks blocks(document, block_tokens);
  for (const block_place& place : blocks.places())
    REQUIRE(block::write(place.out, place.id, document.rows().block_shape(place.index, block_tokens),
                         place.bands, document.rows().block_source(place.index, block_tokens)));
  return blocks;
}

inline const repeat_plan& short_repeats() {
  static const repeat_plan plan{.prompt = {{7, 8, 9}, {}, {12}, 4, hint_source::previous_tail},
                                .chunk_tokens = 40};
  return plan;
}

inline banded_document scored(runner& model, std::span<const token_id> tokens,
                              std::vector<block::codec> codecs) {
  row_scorer scorer(model);
  banding wanted{.ratios = {}, .codecs = std::move(codecs)};
  for (const auto* const ratio : {"0.2", "0.5", "0.9"})
    wanted.ratios.push_back(*policies::decimal_ratio::parse(ratio));
  auto document = encode_banded(model, scorer, short_repeats(), tokens, wanted);
  REQUIRE_MESSAGE(document.has_value(), document.error().context);
  return std::move(*document);
}

inline banded_document unscored(runner& model, std::span<const token_id> tokens) {
  auto rows = encode_document(model, tokens);
  REQUIRE_MESSAGE(rows.has_value(), rows.error().context);
  return banded_document(std::move(*rows));
}

}  // namespace weft::engine::test
