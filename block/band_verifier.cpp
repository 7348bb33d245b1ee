#include <weft/block/band_verifier.hpp>

#include <xxhash.h>

#include <new>
#include <string>

namespace weft::block {

namespace {
struct hash_deleter {
  void operator()(XXH3_state_t* hash) const { XXH3_freeState(hash); }
};
}  // namespace

struct band_verifier::state {
  std::unique_ptr<XXH3_state_t, hash_deleter> hash{XXH3_createState()};
  std::uint64_t expected_checksum;
  std::uint64_t missing_bytes;
  bool too_long = false;
};

band_verifier::band_verifier(const view& header, std::uint32_t band) : state_(std::make_unique<state>()) {
  if (!state_->hash) throw std::bad_alloc();
  XXH3_64bits_reset(state_->hash.get());
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
  XXH3_64bits_update(state_->hash.get(), piece.data(), piece.size());
}

result<void> band_verifier::finish() const {
  if (state_->too_long || state_->missing_bytes != 0)
    return fail(errc::corrupt,
                "block: a band arrived " +
                    (state_->too_long ? "with bytes too many"
                                      : std::to_string(state_->missing_bytes) + " bytes short") +
                    "; fetch another copy");
  if (XXH3_64bits_digest(state_->hash.get()) != state_->expected_checksum)
    return fail(errc::corrupt, "block: checksum of a band differs; fetch another copy");
  return {};
}

}  // namespace weft::block
