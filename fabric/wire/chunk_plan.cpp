#include <weft/fabric/wire/chunk_plan.hpp>

#include <limits>

namespace weft::fabric {

result<chunk_plan> chunk_plan::make(std::vector<std::uint64_t> range_lengths, std::uint32_t chunk_bytes) {
  chunk_plan plan;
  std::uint64_t total = 0;
  for (auto& length : range_lengths) {
    if (length > std::numeric_limits<std::uint64_t>::max() - total)
      return fail(errc::invalid_argument, "ranges of more than 2^64 bytes in one fetch; split it");
    total += length;
    length = total;
  }
  const auto chunks = total / chunk_bytes + (total % chunk_bytes != 0 ? 1 : 0);
  if (chunks > std::numeric_limits<std::uint32_t>::max())
    return fail(errc::invalid_argument, "a fetch of " + std::to_string(total) + " bytes; split it");
  plan.ends_ = std::move(range_lengths);
  plan.chunk_bytes_ = chunk_bytes;
  plan.chunk_count_ = static_cast<std::uint32_t>(chunks);
  return plan;
}

chunk_plan::chunk_span chunk_plan::chunks_of(std::size_t range) const {
  const auto begin = range == 0 ? 0 : ends_[range - 1];
  const auto end = ends_[range];
  if (begin == end) return {};
  return {static_cast<std::uint32_t>(begin / chunk_bytes_),
          static_cast<std::uint32_t>((end - 1) / chunk_bytes_ + 1)};
}

}  // namespace weft::fabric
