// Collects rows on their way from stored form to a cache, then moves them all at once.
#pragma once

#include <weft/engine/kv_cache.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// Rows of one (layer, KV head) of a source, [rows][head_dim] each, keys before RoPE.
struct source_rows {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  const std::uint16_t* entries = nullptr;  // of the rotation table by row; null: in order
  const kernels::rotation_table* rotations = nullptr;
};

class scatter_list {
 public:
  explicit scatter_list(kv_cache& cache) : cache_(cache) {}

  // Row i goes to slots[i].
  void add(std::uint32_t layer, std::uint32_t kv_head, const source_rows& source,
           std::span<const std::uint32_t> slots);

  // Rotates and copies what was added, and forgets it.
  void run(kernels::thread_pool& pool);

 private:
  kv_cache& cache_;
  std::vector<kernels::scatter_rows> items_;
};

}  // namespace weft::engine
