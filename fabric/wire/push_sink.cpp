#include <weft/fabric/wire/push_sink.hpp>

#include <cstring>
#include <utility>

namespace weft::fabric {

push_sink::push_sink(std::vector<fetch_range> ranges, chunk_plan plan)
    : ranges_(std::move(ranges)),
      plan_(std::move(plan)),
      arrived_(plan_.chunk_count(), false),
      missing_(plan_.chunk_count()) {}

std::uint64_t push_sink::accept(std::uint32_t chunk, std::span<const std::byte> payload,
                                std::span<std::byte> arena) {
  if (chunk >= plan_.chunk_count() || arrived_[chunk] || payload.size() != plan_.chunk_length(chunk))
    return 0;
  const auto* from = payload.data();
  plan_.for_each_piece(chunk, [&](std::size_t range, std::uint64_t offset, std::uint64_t bytes) {
    std::memcpy(arena.data() + ranges_[range].local_offset + offset, from, bytes);
    from += bytes;
  });
  arrived_[chunk] = true;
  --missing_;
  return payload.size();
}

void push_sink::show(fetch_watcher& watcher, std::span<const std::byte> arena,
                     std::vector<result<void>>& results) {
  for (; shown_ < plan_.chunk_count() && arrived_[shown_]; ++shown_) {
    plan_.for_each_piece(shown_, [&](std::size_t range, std::uint64_t offset, std::uint64_t bytes) {
      const auto& where = ranges_[range];
      watcher.arrived(range, arena.subspan(where.local_offset + offset, bytes));
      if (offset + bytes == where.length_bytes) results[range] = watcher.complete(range);
    });
  }
}

bool push_sink::range_complete(std::size_t range) const {
  const auto chunks = plan_.chunks_of(range);
  for (auto chunk = chunks.first; chunk < chunks.last; ++chunk)
    if (!arrived_[chunk]) return false;
  return true;
}

}  // namespace weft::fabric
