#include <weft/fabric/wire/push_queue.hpp>

#include <algorithm>
#include <utility>

namespace weft::fabric {

namespace {

result<chunk_plan> plan_of(const std::vector<wire_range>& ranges, std::uint32_t chunk_bytes) {
  std::vector<std::uint64_t> lengths(ranges.size());
  std::transform(ranges.begin(), ranges.end(), lengths.begin(), [](const wire_range& r) { return r.length; });
  return chunk_plan::make(std::move(lengths), chunk_bytes);
}

}  // namespace

tl::expected<void, refusal> push_queue::accept(const fetch_request_header& header,
                                               std::span<const std::byte> payload,
                                               std::uint64_t arena_bytes) {
  auto ranges = parse_ranges(header, payload, arena_bytes);
  if (!ranges) return tl::unexpected{ranges.error()};
  auto plan = plan_of(*ranges, header.chunk_bytes);
  if (!plan) return tl::unexpected{refusal::malformed};
  if (plan->chunk_count() == 0) return {};
  if (jobs_.size() >= max_waiting) return tl::unexpected{refusal::too_many_waiting};
  jobs_.push_back({header.operation, std::move(*ranges), std::move(*plan), 0});
  return {};
}

void push_queue::cancel(std::uint64_t operation) {
  std::erase_if(jobs_, [&](const job& j) { return j.operation == operation; });
}

push_queue::chunk push_queue::next(std::span<const std::byte> arena, std::vector<std::byte>& staging) {
  auto current = std::move(jobs_.front());
  jobs_.pop_front();
  const auto index = current.next_chunk++;
  const auto length = current.plan.chunk_length(index);
  chunk out{{current.operation, index}, {}};
  staging.clear();
  current.plan.for_each_piece(index, [&](std::size_t range, std::uint64_t offset, std::uint64_t bytes) {
    const auto piece = arena.subspan(current.ranges[range].offset + offset, bytes);
    if (bytes == length) {
      out.bytes = piece;
    } else {
      staging.insert(staging.end(), piece.begin(), piece.end());
    }
  });
  if (out.bytes.empty()) out.bytes = staging;
  if (current.next_chunk < current.plan.chunk_count()) jobs_.push_back(std::move(current));
  return out;
}

}  // namespace weft::fabric
