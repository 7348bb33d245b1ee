// Bytes of a fetch out of a peer's arena that this process has mapped.
#pragma once

#include "ucx/fetch_operation.hpp"

#include <cstddef>
#include <memory>
#include <span>

namespace weft::fabric {

// A peer's arena in this process's address space.
struct mapped_arena {
  std::shared_ptr<const void> mapping;  // keeps it there; null for this node's own
  std::span<const std::byte> view;
};

// What will be shown: by range, where it stands. Ranges that were refused have none.
void lay_out_views(fetch_operation& operation, const mapped_arena& peer);

// Copies, or shows the watcher, as much as may hold up everything else. True when that was all.
bool copy_some(fetch_operation& operation, std::span<const std::byte> view, std::span<std::byte> destination);
bool show_some(fetch_operation& operation);

}  // namespace weft::fabric
