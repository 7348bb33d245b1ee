#include <weft/block/band_verifier.hpp>

#include "checksum.hpp"

#include <string>

namespace weft::block {

struct band_verifier::state {
  running_checksum sum;
  std::uint64_t expected_checksum;
  std::uint64_t missing_bytes;
  bool too_long = false;
};

band_verifier::band_verifier(const view& header, std::uint32_t band) : state_(std::make_unique<state>()) {
  state_->expected_checksum = header.checksum_of_band(band);
  state_->missing_bytes = header.range_of_band(band).bytes;
}

band_verifier::band_verifier(band_verifier&&) noexcept = default;
band_verifier& band_verifier::operator=(band_verifier&&) noexcept = default;
band_verifier::~band_verifier() = default;

void band_verifier::append(std::span<const std::byte> piece) {
  if (piece.size() > state_->missing_bytes) {
    state_->too_long = true;
    return;
  }
  state_->missing_bytes -= piece.size();
  state_->sum.append(piece);
}

result<void> band_verifier::finish() const {
  if (state_->too_long || state_->missing_bytes != 0)
    return fail(errc::corrupt,
                "block: a band arrived " +
                    (state_->too_long ? "with bytes too many"
                                      : std::to_string(state_->missing_bytes) + " bytes short") +
                    "; fetch another copy");
  if (state_->sum.value() != state_->expected_checksum)
    return fail(errc::corrupt, "block: checksum of a band differs; fetch another copy");
  return {};
}

}  // namespace weft::block
