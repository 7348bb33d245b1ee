// Blocks as fetches bring them to a device's memory.
#pragma once

#include <weft/block/layout.hpp>
#include <weft/device/device.hpp>
#include <weft/engine/block_landing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine::test {

// A landing, beside memory of the host's in which nothing else is written.
class landing_place {
 public:
  static constexpr std::byte untouched{0xA5};

  landing_place(const std::shared_ptr<const compute_device>& on, std::size_t bytes) : on_(on), wire_(bytes) {
    auto memory = on->memory->allocate_pinned(bytes, "places of blocks");
    REQUIRE(memory);
    here_ = std::move(*memory);
    std::memset(here_.data(), static_cast<int>(untouched), bytes);
    auto made = block_landing::make(on, {here_.data(), bytes});
    REQUIRE_MESSAGE(made.has_value(), made.error().context);
    landing_ = std::move(*made);
  }

  block_landing& landing() const { return *landing_; }
  std::byte* data() const { return here_.data(); }

  // The next place, and what comes to its twin on the device by `deliver`.
  std::span<std::byte> fetch(std::span<const std::byte> block) {
    REQUIRE(block.size() <= wire_.size() - used_);
    std::ranges::copy(block, wire_.begin() + static_cast<std::ptrdiff_t>(used_));
    const std::span<std::byte> place(here_.data() + used_, block.size());
    used_ += (block.size() + block::part_alignment_bytes - 1) / block::part_alignment_bytes *
             block::part_alignment_bytes;
    return place;
  }
  void deliver() {
    auto stream = on_->memory->make_stream();
    REQUIRE(stream);
    (*stream)->upload(landing_->memory().data(), wire_.data(), used_);
    REQUIRE((*stream)->wait());
  }

 private:
  std::shared_ptr<const compute_device> on_;
  std::vector<std::byte> wire_;
  device::memory here_;
  std::shared_ptr<block_landing> landing_;
  std::size_t used_ = 0;
};

inline block::expectation exactly(const block::identity& id) {
  return {.key = id.key,
          .fingerprint = id.fingerprint,
          .generation = id.generation,
          .incarnation = id.incarnation};
}

// What a landing that holds to its word may leave undone: only what says which rows there are stays here.
inline void spoil_rows(std::span<std::byte> place) {
  const auto view = block::view::parse(place);
  REQUIRE(view);
  for (std::uint32_t band = 0; band < view->bands_present(); ++band)
    for (std::uint32_t layer = 0; layer < view->dimensions().layers; ++layer) {
      const auto range = view->range_of_layer(band, layer);
      const auto rows = view->layer(band, layer);
      const std::byte* const end = place.data() + range.offset + range.bytes;
      std::fill(const_cast<std::byte*>(rows.k), const_cast<std::byte*>(end), landing_place::untouched);
    }
}

}  // namespace weft::engine::test
