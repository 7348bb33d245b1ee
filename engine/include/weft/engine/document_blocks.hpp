// A document's blocks, written where they are to lie.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/layout.hpp>
#include <weft/engine/banded_document.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// One block and where it is to lie, as `block::write` takes them.
struct block_place {
  std::uint32_t index = 0;  // in the document
  block::identity id;
  std::vector<block::band_rows> bands;  // as the document's `block_bands` gives them
  std::span<std::byte> out;             // of block::size_bytes, aligned to block::part_alignment_bytes
};

// Writes them on the device that has the document's rows: the more at once, the better. Where there is none,
// or it fails, the host writes them; the bytes are the same. Errors as `block::write`: then what is in the
// places is no block. One thread at a time for a document.
result<void> write_blocks(const encoded_document& rows, std::uint32_t block_tokens,
                          std::span<const block_place> blocks);

}  // namespace weft::engine
