// Single layers of blocks on their way into a sparse session's slots, whose rows are raw.
#pragma once

#include <weft/actors/local_messages.hpp>
#include <weft/actors/sparse_parts.hpp>
#include <weft/block/proven_layer.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace weft::actors {

class slot_writer {
 public:
  // The rows of the load's layer, proven by the index, decoded and rotated, into its slot. `bands` are the
  // block's first ones. `corrupt` for bytes that are something else.
  result<void> put(const sparse_context_plan& plan, const sparse_index& index, const engine::block_load& load,
                   std::span<const block::layer_bytes> bands);

 private:
  kernels::thread_pool threads_{1};
  kernels::rotation_table rotations_;
  std::vector<kernels::scatter_rows> items_;
  std::vector<std::uint32_t> filled_;  // by KV head
};

}  // namespace weft::actors
