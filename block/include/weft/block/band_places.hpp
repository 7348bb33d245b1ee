// Where the rows of a block lie, for who puts them there himself and not by `write`.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/layout.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::block {

// One layer of a band, in bytes from the block's first. Parts follow one another and what they leave of the
// space between is zero. Of a raw band keys and values are elements, and there are no scales.
struct layer_place {
  std::size_t index = 0;  // count[kv_head], position[row]
  std::size_t k = 0;      // [row], of heads one after the other
  std::size_t k_scales = 0;
  std::size_t v = 0;
  std::size_t v_scales = 0;
  std::size_t end = 0;
};

struct band_place {
  byte_range range;
  std::vector<layer_place> layers;
};

// Whether `write` would take the bands and their place: its errors.
result<void> check_place(std::span<const std::byte> out, const shape& s, std::span<const band_rows> bands);

// Of everything before the bands.
std::size_t header_bytes(const shape& s, std::span<const band_rows> bands);

// Of bands that `check_place` took.
std::vector<band_place> places_of(const shape& s, std::span<const band_rows> bands);

// The `header_bytes` before the bands, which are in their places or will be, with these checksums (XXH3-64 of
// each band's range). Of bands that `check_place` took.
void write_header(std::span<std::byte> out, const identity& id, const shape& s,
                  std::span<const band_rows> bands, std::span<const std::uint64_t> checksums);

}  // namespace weft::block
