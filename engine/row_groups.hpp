// The rows of a batch by cache, and whether a batch can be computed at all.
#pragma once

#include <weft/engine/runner.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// Consecutive rows of one cache.
struct row_group {
  kv_cache* cache = nullptr;
  std::uint32_t first_row = 0;
  std::uint32_t rows = 0;
};

struct grouped_batch {
  std::vector<row_group> groups;
  // Every row is the only one of its cache, behind all rows that are there, and sees them all.
  bool decode_step = true;
};

// Fills `out`, which keeps its memory from call to call. `invalid_argument` for a batch that contradicts
// itself, the model or its caches, `out_of_space` if a cache has no room for its rows.
result<void> group_rows(const row_batch& batch, std::span<kv_cache* const> caches, const kv_shape& shape,
                        std::uint32_t vocab_size, grouped_batch& out);

// Every group's cache, and all that it stands behind (`bring_all_home`).
result<void> bring_caches_home(std::span<const row_group> groups);

}  // namespace weft::engine
