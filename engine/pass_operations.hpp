// What a forward pass is made of, wherever its activations lie: on the CPU (cpu_operations.hpp) or on a
// device (device/operations.hpp). What comes after what is forward_pass.hpp's.
#pragma once

#include <weft/engine/runner.hpp>
#include <weft/kernels/attention_prefill.hpp>

#include "row_groups.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::engine {

// What a pass computes: consecutive rows of a batch. Lists are by row; `wanted` counts from the first row.
struct row_chunk {
  std::span<const token_id> tokens;
  std::span<const std::int32_t> positions;
  std::span<const std::int32_t> segments;
  std::span<const row_group> groups;  // of these rows
  std::span<const std::uint32_t> wanted;
  std::uint32_t first_row = 0;  // in the batch
  bool decode_step = false;
};

// The rows that go on: all of a chunk, or, behind the last layer's keys and values, the wanted ones only.
struct active_rows {
  std::uint32_t rows = 0;
  std::span<const std::int32_t> positions;
  std::span<const std::int32_t> segments;
  std::span<const row_group> groups;
  bool decode_step = false;
  std::uint32_t first_row = 0;  // in the batch, where all rows of a chunk go on
};

// K before RoPE and V in the cache dtype, [row][kv_head][head_dim].
struct shown_keys {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
};

// Queries after RoPE, [row][query_head][head_dim].
struct shown_queries {
  const float* q = nullptr;
  std::size_t row_stride = 0;  // floats
};

// One pass at a time; operations come in the order of the pass. What is shown lies on the host and is valid
// until the next operation. What a device or a group reports may belong to any operation before.
class pass_operations {
 public:
  virtual ~pass_operations() = default;

  // What brings rows of blocks to the device; null where there is none.
  virtual block_stage* stage() { return nullptr; }

  // Room for passes over these caches' rows, up to `rows` of them at once. Where it fails nothing has
  // changed.
  virtual result<void> prepare(std::span<const row_group> groups, std::uint32_t rows) = 0;

  // A whole pass, where it can be done in one piece, of which nobody observes anything: whether it was. Else
  // nothing has changed. All ranks of a group call it, whether they can or not.
  virtual result<bool> step(const row_chunk& /*chunk*/, std::span<float> /*logits*/, bool /*observed*/) {
    return false;
  }

  virtual result<void> begin(const row_chunk& chunk) = 0;
  // The residual stream, [rows][hidden]: the tokens' embeddings, or these rows of what was read.
  virtual result<void> embed(std::span<const token_id> tokens) = 0;
  virtual result<void> set_stream(const float* stream, std::span<const std::uint32_t> rows) = 0;
  virtual result<void> read_stream(std::uint32_t rows, float* out) = 0;

  // Queries, keys and values of the layer; the latter two are rounded to the cache dtype.
  virtual void project(std::uint32_t layer, std::uint32_t rows) = 0;
  virtual result<const float*> show_input(std::uint32_t layer, std::uint32_t rows) = 0;
  // Shows an observer where it lies on a device.
  virtual void show_input_there(std::uint32_t /*layer*/, const row_chunk& /*chunk*/,
                                forward_observer& /*observer*/) {}
  virtual void round_keys_and_values(std::uint32_t rows) = 0;
  virtual result<shown_keys> show_keys(std::uint32_t rows) = 0;
  // Shows an observer where they lie on a device.
  virtual void show_keys_there(std::uint32_t /*layer*/, const row_chunk& /*chunk*/,
                               forward_observer& /*observer*/) {}
  // Into the caches; queries are rotated. `watched`: an observer looks at the caches before they are written
  // to again.
  virtual result<void> write_cache(std::uint32_t layer, const row_chunk& chunk, bool watched) = 0;
  virtual result<shown_queries> show_queries(std::uint32_t rows) = 0;
  virtual result<void> count_columns(std::uint32_t layer, const row_chunk& chunk,
                                     forward_observer& observer) = 0;

  // Only these rows go on, numbered anew.
  virtual result<void> keep(std::span<const std::uint32_t> rows) = 0;
  virtual result<void> attend(std::uint32_t layer, const active_rows& active, forward_observer* observer) = 0;
  virtual result<void> add_attention(std::uint32_t layer, std::uint32_t rows) = 0;
  // What the layer's queries would be without the MLP before it; roughly, where that may be.
  virtual result<shown_queries> show_queries_ahead(std::uint32_t layer, std::uint32_t rows, bool roughly) = 0;
  virtual result<void> add_mlp(std::uint32_t layer, std::uint32_t rows) = 0;
  virtual result<void> write_logits(std::uint32_t rows, std::span<float> logits) = 0;

  // All of it is done, and the caches hold all rows.
  virtual result<void> finish() = 0;
  // An operation failed, and the pass ends: what a device was to get of these rows' caches may not be there.
  virtual void abandon(std::span<const row_group> groups) = 0;
};

}  // namespace weft::engine
