// Proves a block whose layers arrive one after the other in their places.
#pragma once

#include <weft/block/band_verifier.hpp>
#include <weft/block/layout.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::block {

class layer_verifier {
 public:
  // `header` is parsed from the whole place, which this must not outlive; its bands may still be on their
  // way.
  explicit layer_verifier(const view& header);

  // The next layer is in its place in all bands.
  void append_layer();

  // Behind the last layer: whether all bands are what their checksums say. Of counts and positions it says
  // nothing: see `view::verify_layer`.
  result<void> finish() const;

 private:
  struct band_proof {
    std::vector<byte_range> layers;
    band_verifier sum;
  };

  std::span<const std::byte> whole_;
  std::vector<band_proof> bands_;
  std::size_t next_layer_ = 0;
};

}  // namespace weft::block
