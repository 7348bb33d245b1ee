#include <weft/block/proven_layer.hpp>

#include "checksum.hpp"
#include "geometry.hpp"
#include "layer_split.hpp"
#include "row_set.hpp"

#include <string>

namespace weft::block {

namespace {

tl::unexpected<error> corrupt(std::size_t band, const char* what) {
  return fail(errc::corrupt, "one layer of band " + std::to_string(band) + " of a block: " + what +
                                 "; fetch it from another holder");
}

}  // namespace

std::uint64_t layer_checksum(std::span<const std::byte> bytes) {
  return checksum_of(bytes);
}

result<std::vector<band_layer>> proven_layer(const shape& s, std::span<const layer_bytes> bands,
                                             std::span<const std::uint64_t> checksums) {
  std::vector<band_layer> layers;
  row_set claimed(s.kv_heads, s.tokens);
  for (std::size_t band = 0; band < bands.size(); ++band) {
    const auto& [bytes, coding] = bands[band];
    if (band >= checksums.size() || checksum_of(bytes) != checksums[band])
      return corrupt(band, "its checksum differs");
    if (!is_known(coding)) return corrupt(band, "its codec is not known");
    const auto [fits, found] = split_layer(bytes, s, coding);
    if (!fits) return corrupt(band, "its counts do not fit its length");
    if (!claimed.add({found.counts, s.kv_heads}, {found.positions, found.rows}))
      return corrupt(band, "its positions are out of range, out of order or repeated");
    layers.push_back(found);
  }
  return layers;
}

}  // namespace weft::block
