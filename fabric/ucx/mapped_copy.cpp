#include "ucx/mapped_copy.hpp"

#include "ucx/streaming_copy.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace weft::fabric {

namespace {

constexpr std::uint64_t copy_turn_bytes = std::uint64_t{1} << 20;       // between looks at everything else
constexpr std::uint64_t watched_piece_bytes = std::uint64_t{16} << 10;  // stays in the first cache
constexpr std::uint64_t streamed_bytes_min = std::uint64_t{256} << 10;  // less is read again out of the cache

bool overlap(const std::byte* a, const std::byte* b, std::uint64_t bytes) {
  return a < b + bytes && b < a + bytes;
}

// A node that fetches from itself may name ranges that overlap.
void copy_piece(fetch_operation& operation, const std::byte* from, std::byte* to, std::uint64_t bytes) {
  const auto& range = operation.ranges[operation.range];
  if (operation.watcher) {
    std::memmove(to, from, bytes);
    operation.watcher->arrived(operation.range, {to, bytes});
    if (operation.offset + bytes == range.length_bytes)
      operation.results[operation.range] = operation.watcher->complete(operation.range);
  } else if (operation.total_bytes >= streamed_bytes_min && !overlap(from, to, bytes)) {
    streaming_copy(to, from, bytes);
  } else {
    std::memmove(to, from, bytes);
  }
}

}  // namespace

void lay_out_views(fetch_operation& operation, const mapped_arena& peer) {
  operation.views.resize(operation.ranges.size());
  for (std::size_t i = 0; i < operation.ranges.size(); ++i) {
    const auto& range = operation.ranges[i];
    if (operation.results[i])
      operation.views[i] = {peer.mapping, peer.view.subspan(range.remote_offset, range.length_bytes)};
  }
}

bool copy_some(fetch_operation& operation, std::span<const std::byte> view,
               std::span<std::byte> destination) {
  auto budget = copy_turn_bytes;
  operation.skip_empty_ranges();
  while (budget > 0 && !operation.all_asked()) {
    const auto& range = operation.ranges[operation.range];
    const auto at_most = operation.watcher ? std::min(budget, watched_piece_bytes) : budget;
    const auto bytes = std::min(at_most, range.length_bytes - operation.offset);
    copy_piece(operation, view.data() + range.remote_offset + operation.offset,
               destination.data() + range.local_offset + operation.offset, bytes);
    operation.offset += bytes;
    operation.bytes_done += bytes;
    budget -= bytes;
    operation.skip_empty_ranges();
  }
  return operation.all_asked();
}

bool show_some(fetch_operation& operation) {
  auto budget = operation.watcher ? copy_turn_bytes : std::numeric_limits<std::uint64_t>::max();
  operation.skip_empty_ranges();
  while (budget > 0 && !operation.all_asked()) {
    const auto number = operation.range;
    const auto shown = operation.views[number].bytes().subspan(operation.offset);
    const auto bytes = std::min<std::uint64_t>(budget, shown.size());
    if (operation.watcher) {
      operation.watcher->arrived(number, shown.first(bytes));
      if (bytes == shown.size()) operation.results[number] = operation.watcher->complete(number);
    }
    operation.offset += bytes;
    operation.bytes_done += bytes;
    budget -= bytes;
    operation.skip_empty_ranges();
  }
  return operation.all_asked();
}

}  // namespace weft::fabric
