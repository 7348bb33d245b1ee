// Single layers of blocks on their way into a sparse session's slots.
#pragma once

#include <weft/actors/local_messages.hpp>
#include <weft/actors/sparse_parts.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace weft::actors {

class slot_writer {
 public:
  // The rows of the load's layer, proven by the index and rotated, into its slot. `ranges` says how many of
  // the bytes each band has: the block's first bands. `corrupt` for bytes that are something else.
  result<void> put(const sparse_context_plan& plan, const sparse_index& index, const engine::block_load& load,
                   std::span<const block::byte_range> ranges, std::span<const std::byte> bytes);

 private:
  kernels::thread_pool threads_{1};
  kernels::rotation_table rotations_;
  std::vector<kernels::scatter_rows> items_;
  std::vector<std::uint32_t> filled_;  // by KV head
};

}  // namespace weft::actors
