#include <weft/collective/call_checks.hpp>

#include <numeric>
#include <string>

namespace weft::collective {

namespace {

constexpr std::size_t at_once_bytes_max = 32 << 10;

}  // namespace

result<void> check_root(unsigned root, unsigned ranks) {
  if (root < ranks) return {};
  return fail(errc::invalid_argument, "a broadcast from rank " + std::to_string(root) + " of " +
                                          std::to_string(ranks) + "; ranks count from 0");
}

result<void> check_parts(std::span<const std::byte> all, std::span<const std::size_t> part_bytes,
                         unsigned ranks) {
  const std::size_t sum = std::accumulate(part_bytes.begin(), part_bytes.end(), std::size_t{0});
  if (part_bytes.size() == ranks && sum == all.size()) return {};
  return fail(errc::invalid_argument, "parts of " + std::to_string(part_bytes.size()) + " ranks with " +
                                          std::to_string(sum) + " bytes for " + std::to_string(ranks) +
                                          " ranks and " + std::to_string(all.size()) + " bytes");
}

summing summing_of(std::span<const float> values, std::size_t piece_bytes, unsigned ranks) {
  const bool by_parts = ranks > 2 && values.size_bytes() > at_once_bytes_max;
  return {by_parts, piece_bytes / sizeof(float) * (by_parts ? ranks : 1)};
}

}  // namespace weft::collective
