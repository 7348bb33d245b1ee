// Collects rows on their way from stored form to a cache, then moves them all at once.
#pragma once

#include <weft/engine/kv_cache.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// Rows of one (layer, KV head) of a source, [rows][head_dim] each or codes, keys before RoPE.
struct source_rows {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  kernels::row_codec coding = kernels::row_codec::raw;
  const std::uint16_t* k_scales = nullptr;
  const std::uint16_t* v_scales = nullptr;
  const std::uint16_t* entries = nullptr;  // of the rotation table by row; null: in order
  const kernels::rotation_table* rotations = nullptr;
};

class scatter_list {
 public:
  // Where the rows of an item go.
  struct place {
    std::uint32_t kv_head = 0;
    std::uint32_t slot = 0;
  };
  // What rows lie in.
  struct source_bytes {
    std::span<const std::byte> here;
    const std::byte* there = nullptr;  // on the device that they go to; null: they are here alone
  };

  explicit scatter_list(kv_cache& cache) : cache_(cache) {}

  // Row i goes to slots[i].
  void add(std::uint32_t layer, std::uint32_t kv_head, const source_rows& source,
           std::span<const std::uint32_t> slots);
  // Of the rows that come next.
  void add_source(const source_bytes& bytes) { sources_.push_back(bytes); }

  std::span<const kernels::scatter_rows> items() const { return items_; }
  std::span<const place> places() const { return places_; }  // by item
  std::span<const source_bytes> sources() const { return sources_; }

  // Rotates and copies what was added, and forgets it.
  void run(kernels::thread_pool& pool);

 private:
  kv_cache& cache_;
  std::vector<kernels::scatter_rows> items_;
  std::vector<place> places_;
  std::vector<source_bytes> sources_;
};

// The blocks of a plan's loaded documents and where they go. `invalid_argument` if they do not fit the plan
// or the cache is not empty.
result<std::vector<placed_block>> placed_blocks(runner& model, const kv_cache& cache,
                                                const policies::stitch_plan& plan,
                                                std::span<const document_blocks> documents);

// Rows of blocks whose layers come one after the other.
class layer_scatter {
 public:
  layer_scatter(runner& model, kv_cache& cache, loaded_rows wanted)
      : model_(model), cache_(cache), wanted_(wanted) {}
  ~layer_scatter();  // the blocks are read no more
  layer_scatter(const layer_scatter&) = delete;
  layer_scatter& operator=(const layer_scatter&) = delete;

  // Header regions only are read. There is room in the cache. `invalid_argument` for blocks of another shape.
  result<void> prepare(std::span<const placed_block> blocks);

  // A layer whose bytes are there: checks its counts and positions, then rotates and scatters its rows.
  result<void> run(std::uint32_t layer);

 private:
  runner& model_;
  kv_cache& cache_;
  loaded_rows wanted_;
  std::span<const placed_block> blocks_;
  std::vector<kernels::rotation_table> rotations_;
  block_stage* stage_ = nullptr;  // where the cache's rows go to a device, too
};

}  // namespace weft::engine
