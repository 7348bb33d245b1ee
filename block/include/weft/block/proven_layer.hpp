// One layer of a block without the rest of it: what sparse decoding fetches.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/layout.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::block {

// XXH3-64 of one layer of one band, of the bytes that `view::range_of_layer` names.
std::uint64_t layer_checksum(std::span<const std::byte> bytes);

// One layer's bytes in one band.
struct layer_bytes {
  std::span<const std::byte> bytes;  // start at a multiple of 8 in memory
  codec coding = codec::raw;
};

// The rows of one layer, by band: the first bands of the block, or all. Proves `checksums` (by band), and
// that no row is there twice. `corrupt` if not. What comes back points into `bands`.
result<std::vector<band_layer>> proven_layer(const shape& s, std::span<const layer_bytes> bands,
                                             std::span<const std::uint64_t> checksums);

}  // namespace weft::block
