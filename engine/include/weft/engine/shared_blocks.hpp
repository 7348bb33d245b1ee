// A document's blocks on all ranks of a group, though one of them fetched them: the way from the pool is gone
// once, the way inside the group is the broadcast's.
//
//   fetched = root ? bytes of the blocks, out of the pool : nothing
//   auto shared = shared_blocks::broadcast(*group, root, expected, fetched);   // every rank
//   load_documents(model, cache, plan, {{shared->blocks()}});
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/block_verifier.hpp>
#include <weft/block/layout.hpp>
#include <weft/collective/communicator.hpp>
#include <weft/kernels/aligned_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// By block, whole bands of it from its beginning; or why the root has none.
using fetched_blocks = result<std::vector<std::span<const std::byte>>>;

class shared_blocks {
 public:
  // All ranks call it with the same `expected`, by block; `fetched` is looked at on the root alone and not
  // needed afterwards. Every rank proves every block. Whatever fails on one rank, fails on all, and but for a
  // lost rank the group goes on.
  static result<shared_blocks> broadcast(collective::communicator& group, unsigned root,
                                         std::span<const block::expectation> expected,
                                         const fetched_blocks& fetched);

  // Verified; refer to this object's memory.
  std::span<const block::view> blocks() const { return views_; }
  std::size_t bytes() const { return bytes_; }  // of the blocks

 private:
  result<void> lay_out(std::span<const std::uint64_t> lengths);
  result<void> prove(std::span<const block::expectation> expected);

  kernels::aligned_buffer memory_;
  std::vector<std::span<std::byte>> places_;  // by block
  std::vector<block::view> views_;
  std::size_t bytes_ = 0;
};

}  // namespace weft::engine
