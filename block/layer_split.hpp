// Where counts, positions, keys and values of a layer of a band lie.
#pragma once

#include <weft/block/layout.hpp>

#include "geometry.hpp"

#include <cstdint>
#include <numeric>
#include <span>

namespace weft::block {

// The parts of a layer that lies at `bytes`; its counts and positions may be a copy of those there.
inline band_layer layer_of(const std::byte* bytes, const layer_parts& parts, const std::uint16_t* index,
                           std::uint32_t kv_heads, std::uint32_t rows, codec coding) {
  const std::byte* k = bytes + parts.index_bytes;
  const std::byte* v = k + parts.tensor_bytes();
  const auto scales_behind = [&](const std::byte* codes) {
    return parts.scales_bytes == 0 ? nullptr
                                   : reinterpret_cast<const std::uint16_t*>(codes + parts.codes_bytes);
  };
  return {.counts = index,
          .positions = index + kv_heads,
          .k = k,
          .v = v,
          .rows = rows,
          .coding = coding,
          .k_scales = scales_behind(k),
          .v_scales = scales_behind(v)};
}

// The rows of a layer, or none when its counts do not fit its length.
struct sized_layer {
  bool fits = false;
  band_layer rows;
};

inline sized_layer split_layer(std::span<const std::byte> bytes, const shape& s, codec coding) {
  if (bytes.size() < parts_of_layer(s, 0, coding).size_bytes()) return {};
  const auto* index = reinterpret_cast<const std::uint16_t*>(bytes.data());
  const std::uint32_t rows = std::accumulate(index, index + s.kv_heads, std::uint32_t{0});
  const layer_parts parts = parts_of_layer(s, rows, coding);
  if (parts.size_bytes() != bytes.size()) return {};
  return {.fits = true, .rows = layer_of(bytes.data(), parts, index, s.kv_heads, rows, coding)};
}

}  // namespace weft::block
