#include <weft/block/block_proof.hpp>

#include "geometry.hpp"

#include <algorithm>
#include <string>

namespace weft::block {

byte_range range_of_header(std::size_t block_bytes) {
  return {.offset = 0, .bytes = std::min(block_bytes, max_header_bytes)};
}

result<void> check_identity(const identity& found, const expectation& expected) {
  const bool right = found.key == expected.key &&
                     (expected.any_fingerprint || found.fingerprint == expected.fingerprint) &&
                     (expected.any_life ||
                      (found.generation == expected.generation && found.incarnation == expected.incarnation));
  if (right) return {};
  return fail(errc::stale, "block " + to_hex(expected.key) + " is no longer there: found " +
                               to_hex(found.key) + ", generation " + std::to_string(found.generation) +
                               "; locate it again");
}

result<void> check_sums(const view& block, std::span<const std::uint64_t> sums) {
  if (sums.empty()) return fail(errc::corrupt, "block: no band was fetched; fetch another copy");
  for (std::uint32_t band = 0; band < sums.size(); ++band)
    if (sums[band] != block.checksum_of_band(band))
      return fail(errc::corrupt, "block: checksum of band " + std::to_string(band) +
                                     " differs; fetch another copy or compute the block");
  return {};
}

byte_range range_of_index(const view& block, std::uint32_t band, std::uint32_t layer) {
  const shape& s = block.dimensions();
  const codec coding = block.coding(band);
  const byte_range all = block.range_of_layer(band, layer);
  if (!is_known(coding)) return {.offset = all.offset, .bytes = 0};
  const std::size_t row_bytes = 2 * kernels::code_bytes(coding, s.dtype, s.head_dim);
  const std::size_t rows = std::min(all.bytes / row_bytes, std::size_t{s.tokens} * s.kv_heads);
  return {.offset = all.offset, .bytes = std::min(all.bytes, parts_of_layer(s, rows, coding).index_bytes)};
}

}  // namespace weft::block
