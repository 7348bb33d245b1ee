#include <weft/block/block_proof.hpp>
#include <weft/block/block_verifier.hpp>

#include "checksum.hpp"
#include "header.hpp"
#include "row_set.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace weft::block {

namespace {

// What lies before the first band, in memory of its own: the block itself may not be aligned to be parsed
// yet.
std::size_t header_bytes_said(std::span<const std::byte> fixed) {
  const auto said = header_bytes_of(fixed);
  return std::clamp<std::size_t>(said, fixed_header_bytes, max_header_bytes);
}

}  // namespace

struct block_verifier::state {
  std::vector<std::byte> head;
  std::size_t head_bytes = fixed_header_bytes;  // that are wanted before it can be parsed
  std::optional<error> failure;
  bool parsed = false;
  view header;      // valid once parsed
  view whole;       // of the last block that was finished
  row_set claimed;  // by its rows

  running_checksum sum;
  std::uint32_t band = 0;  // the one that arrives
  std::uint64_t missing_bytes = 0;
  std::array<std::uint64_t, max_bands> sums{};

  void restart() {
    head.clear();
    head_bytes = fixed_header_bytes;
    failure.reset();
    parsed = false;
    band = 0;
    missing_bytes = 0;
  }

  // Takes what belongs to the header off the front of `piece`.
  void take_head(std::span<const std::byte>& piece) {
    while (!parsed && !failure && !piece.empty()) {
      const auto wanted = std::min(piece.size(), head_bytes - head.size());
      head.insert(head.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(wanted));
      piece = piece.subspan(wanted);
      if (head.size() < head_bytes) return;
      if (head_bytes == fixed_header_bytes) {
        head_bytes = header_bytes_said(head);
        if (head.size() < head_bytes) continue;
      }
      parse_head();
    }
  }

  void parse_head() {
    if (auto read = header.read(head); !read) {
      failure = read.error();
      return;
    }
    parsed = true;
    begin_band(0);
  }

  void begin_band(std::uint32_t next) {
    for (band = next; band < header.band_count(); ++band) {
      missing_bytes = header.range_of_band(band).bytes;
      sum.restart();
      if (missing_bytes > 0) return;
      sums[band] = sum.value();
    }
  }

  void take_bands(std::span<const std::byte> piece) {
    while (parsed && !failure && !piece.empty()) {
      if (band == header.band_count()) {
        failure = error{errc::corrupt, "block: bytes behind its last band; fetch another copy"};
        return;
      }
      const auto taken = std::min<std::uint64_t>(piece.size(), missing_bytes);
      sum.append(piece.first(taken));
      piece = piece.subspan(taken);
      missing_bytes -= taken;
      if (missing_bytes > 0) return;
      sums[band] = sum.value();
      begin_band(band + 1);
    }
  }
};

block_verifier::block_verifier() : state_(std::make_unique<state>()) {}
block_verifier::block_verifier(block_verifier&&) noexcept = default;
block_verifier& block_verifier::operator=(block_verifier&&) noexcept = default;
block_verifier::~block_verifier() = default;

void block_verifier::restart() {
  state_->restart();
}

void block_verifier::append(std::span<const std::byte> piece) {
  state_->take_head(piece);
  state_->take_bands(piece);
}

result<void> block_verifier::finish(std::span<const std::byte> whole, const expectation& expected) {
  state& s = *state_;
  if (s.failure) return tl::unexpected{*s.failure};
  const bool at_an_end = s.parsed && (s.band == s.header.band_count() ||
                                      s.missing_bytes == s.header.range_of_band(s.band).bytes);
  if (!at_an_end || s.band == 0)
    return fail(errc::corrupt, "block: its bytes end inside the header or a band; fetch another copy");
  if (auto right = check_identity(s.header.id(), expected); !right) return right;
  if (auto right = check_sums(s.header, std::span(s.sums).first(s.band)); !right) return right;
  if (s.header.is_opaque()) return {};
  if (auto read = s.whole.read(whole); !read) return read;
  return s.whole.verify_rows(s.claimed);
}

}  // namespace weft::block
