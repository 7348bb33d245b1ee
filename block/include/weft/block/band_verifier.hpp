// The checksum of a band whose bytes arrive in pieces.
#pragma once

#include <weft/block/layout.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weft::block {

// Feed a band from its first byte to its last, in order. Only the checksum is proven: counts and positions
// are checked by `view::verify_bands` once everything is there.
class band_verifier {
 public:
  // `header` may be a parse of the header region alone.
  band_verifier(const view& header, std::uint32_t band);
  band_verifier(band_verifier&&) noexcept;
  band_verifier& operator=(band_verifier&&) noexcept;
  ~band_verifier();

  void append(std::span<const std::byte> piece);
  // `corrupt` unless exactly the band's bytes were appended.
  result<void> finish() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::block
