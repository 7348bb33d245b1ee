// Where rows go in a cache whose rows stay in the order of their positions.
#pragma once

#include <weft/engine/kv_cache.hpp>

#include <cstdint>
#include <span>

namespace weft::engine {

// How many of the ascending `positions` have no row yet in this (layer, KV head).
std::uint32_t missing_rows(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                           std::span<const std::int32_t> positions);

// Whether every (layer, KV head) has room for rows at all of the ascending `positions`.
bool has_room(const kv_cache& cache, std::span<const std::int32_t> positions);

// Gives every one of the ascending `positions` a row of this (layer, KV head) and its segment: the one that
// is there, or a new one at its place in the order, for which later rows move. slots[i] is the row of
// positions[i]; the K and V of a new row are still to be written. There must be room.
void open_slots(kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                std::span<const std::int32_t> positions, std::span<const std::int32_t> segments,
                std::span<std::uint32_t> slots);

// Takes the rows at the ascending `positions` out, as far as there are any, and closes the gaps. Returns how
// many there were.
std::uint32_t drop_rows(kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                        std::span<const std::int32_t> positions);

}  // namespace weft::engine
