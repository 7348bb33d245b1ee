#include <weft/block/layer_verifier.hpp>

namespace weft::block {

layer_verifier::layer_verifier(const view& header) : whole_(header.bytes()) {
  for (std::uint32_t band = 0; band < header.bands_present(); ++band) {
    std::vector<byte_range> layers;
    for (std::uint32_t layer = 0; layer < header.dimensions().layers; ++layer)
      layers.push_back(header.range_of_layer(band, layer));
    bands_.push_back({std::move(layers), band_verifier(header, band)});
  }
}

void layer_verifier::append_layer() {
  for (band_proof& band : bands_) {
    if (next_layer_ >= band.layers.size()) continue;
    const byte_range& range = band.layers[next_layer_];
    band.sum.append(whole_.subspan(range.offset, range.bytes));
  }
  ++next_layer_;
}

result<void> layer_verifier::finish() const {
  for (const band_proof& band : bands_)
    if (auto proven = band.sum.finish(); !proven) return proven;
  return {};
}

}  // namespace weft::block
