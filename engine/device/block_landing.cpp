#include <weft/block/block_proof.hpp>
#include <weft/engine/block_landing.hpp>
#include <weft/kernels/cuda/block_work.hpp>

#include "device_alignment.hpp"
#include "device_kernels.hpp"
#include "staging.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

namespace weft::engine {

namespace {

using kernels::cuda::checked_part;
using kernels::cuda::filled_part;

std::uintptr_t number_of(const std::byte* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

// A block whose header is here and says what it should.
struct parsed_block {
  block::view view;
  std::size_t first_sum = 0;
  std::size_t first_index = 0;
  std::size_t indexes = 0;
  std::size_t index_offset = 0;  // among those that come down
};

}  // namespace

// What a device is asked about some blocks, and the memory for it: checksums of bands, and indexes of layers
// one behind the other, which come down in one copy.
struct block_landing::lane {
  lane(std::shared_ptr<device::device> owner, std::unique_ptr<device::stream> made)
      : memory_(std::move(owner)), stream_(std::move(made)), lists_(memory_, *stream_) {}

  device::stream& stream() const { return *stream_; }

  void clear() {
    sums_.clear();
    indexes_.clear();
    places_.clear();
    index_bytes_ = 0;
  }

  void add(parsed_block& block, std::span<std::byte> here, const std::byte* there) {
    const block::view& view = block.view;
    block.first_sum = sums_.size();
    block.first_index = places_.size();
    block.index_offset = index_bytes_;
    for (std::uint32_t band = 0; band < view.bands_present(); ++band) {
      const block::byte_range range = view.range_of_band(band);
      sums_.push_back({there + range.offset, range.bytes / sizeof(std::uint64_t)});
      for (std::uint32_t layer = 0; layer < view.dimensions().layers; ++layer)
        add_index(block::range_of_index(view, band, layer), here, there);
    }
    block.indexes = places_.size() - block.first_index;
  }

  result<void> run(device_kernels& kernels) {
    if (sums_.empty()) return {};
    lists_.reset();
    auto found = reserve();
    if (!found) return tl::unexpected(found.error());
    std::size_t next = sums_bytes();
    for (std::size_t i = 0; i < indexes_.size(); ++i) {
      indexes_[i].to = *found + next;
      next += places_[i].size();
    }
    const auto* const parts = lists_.add(std::span(std::as_const(sums_)));
    const auto* const pieces = lists_.add(std::span(std::as_const(indexes_)));
    if (auto flushed = lists_.flush(); !flushed) return flushed;
    kernels.checksums(parts, static_cast<std::uint32_t>(sums_.size()),
                      reinterpret_cast<std::uint64_t*>(*found), *stream_);
    if (!indexes_.empty()) kernels.fill_parts(pieces, static_cast<std::uint32_t>(indexes_.size()), *stream_);
    stream_->download(found_here_.data(), *found, found_bytes());
    return stream_->wait();
  }

  std::span<const std::uint64_t> sums_of(const parsed_block& block) const {
    return {reinterpret_cast<const std::uint64_t*>(found_here_.data()) + block.first_sum,
            block.view.bands_present()};
  }

  void place_indexes(const parsed_block& block) const {
    const std::byte* from = found_here_.data() + sums_bytes() + block.index_offset;
    for (const std::span<std::byte> place : std::span(places_).subspan(block.first_index, block.indexes)) {
      std::memcpy(place.data(), from, place.size());
      from += place.size();
    }
  }

 private:
  void add_index(const block::byte_range& range, std::span<std::byte> here, const std::byte* there) {
    if (range.bytes == 0) return;
    places_.push_back(here.subspan(range.offset, range.bytes));
    indexes_.push_back({.numbers = reinterpret_cast<const std::uint16_t*>(there + range.offset),
                        .count = static_cast<std::uint32_t>(range.bytes / sizeof(std::uint16_t))});
    index_bytes_ += range.bytes;
  }

  std::size_t sums_bytes() const { return sums_.size() * sizeof(std::uint64_t); }
  std::size_t found_bytes() const { return sums_bytes() + index_bytes_; }

  result<std::byte*> reserve() {
    constexpr std::string_view purpose = "what blocks on a device say of themselves";
    found_there_.settle();
    if (found_bytes() > found_here_.size_bytes()) {
      auto pinned = memory_->allocate_pinned(found_bytes(), purpose);
      if (!pinned) return tl::unexpected(pinned.error());
      found_here_ = std::move(*pinned);
    }
    return found_there_.reserve(*memory_, found_bytes(), purpose);
  }

  std::shared_ptr<device::device> memory_;
  std::unique_ptr<device::stream> stream_;
  staging lists_;
  growing_memory found_there_;
  device::memory found_here_;
  std::vector<checked_part> sums_;
  std::vector<filled_part> indexes_;
  std::vector<std::span<std::byte>> places_;  // of the indexes, here
  std::size_t index_bytes_ = 0;
};

result<std::shared_ptr<block_landing>> block_landing::make(std::shared_ptr<const compute_device> on,
                                                           std::span<std::byte> beside) {
  if (number_of(beside.data()) % device_alignment_bytes != 0)
    return fail(errc::invalid_argument, "memory that stands beside a device's must begin at a multiple of " +
                                            std::to_string(device_alignment_bytes));
  auto stream = on->memory->make_stream();
  if (!stream) return tl::unexpected(stream.error());
  auto there = on->memory->allocate(beside.size(), "fetched blocks");
  if (!there) return tl::unexpected(there.error());
  return std::make_shared<block_landing>(std::move(on), beside, std::move(*there), std::move(*stream));
}

block_landing::block_landing(std::shared_ptr<const compute_device> on, std::span<std::byte> beside,
                             device::memory there, std::unique_ptr<device::stream> stream)
    : on_(std::move(on)),
      beside_(beside),
      there_(std::move(there)),
      lane_(std::make_unique<lane>(on_->memory, std::move(stream))) {}

block_landing::~block_landing() = default;

result<void> block_landing::check_place(std::span<const std::byte> here) const {
  const std::uintptr_t offset = number_of(here.data()) - number_of(beside_.data());
  if (offset <= beside_.size() && here.size() <= beside_.size() - offset &&
      offset % block::part_alignment_bytes == 0)
    return {};
  return fail(errc::invalid_argument, "a block on a device that has no place on the host");
}

std::vector<result<void>> block_landing::prove(std::span<const arrived> blocks) {
  std::vector<result<void>> outcomes(blocks.size());
  const auto each_good = [&](const auto& step) {
    for (std::size_t i = 0; i < blocks.size(); ++i)
      if (outcomes[i]) outcomes[i] = step(i);
  };
  std::vector<parsed_block> parsed(blocks.size());
  const std::scoped_lock lock(proving_);
  lane& on = *lane_;
  each_good([&](std::size_t i) {
    const auto here = blocks[i].here;
    auto placed = check_place(here);
    if (placed) on.stream().download(here.data(), at(here.data()), block::range_of_header(here.size()).bytes);
    return placed;
  });
  const auto headers = on.stream().wait();
  on.clear();
  each_good([&](std::size_t i) {
    const auto& [here, expected] = blocks[i];
    block::view& view = parsed[i].view;
    auto right = headers;
    if (right) right = view.read(here);
    if (right) right = block::check_identity(view.id(), expected);
    if (right) on.add(parsed[i], here, at(here.data()));
    return right;
  });
  const auto found = on.run(*on_->kernels);
  each_good([&](std::size_t i) {
    auto right = found;
    if (right) right = block::check_sums(parsed[i].view, on.sums_of(parsed[i]));
    if (!right || parsed[i].view.is_opaque()) return right;
    on.place_indexes(parsed[i]);
    return parsed[i].view.verify_rows();
  });
  const std::scoped_lock known(mutex_);
  each_good([&](std::size_t i) {
    landed_.insert_or_assign(blocks[i].here.data(), landed{blocks[i].here});
    return result<void>{};
  });
  return outcomes;
}

const block_landing::landed* block_landing::find(const std::byte* here) const {
  const auto behind = landed_.upper_bound(here);
  if (behind == landed_.begin()) return nullptr;
  const landed& before = std::prev(behind)->second;
  return number_of(here) - number_of(before.here.data()) < before.here.size() ? &before : nullptr;
}

const std::byte* block_landing::there(const std::byte* here) const {
  const std::scoped_lock lock(mutex_);
  return find(here) == nullptr ? nullptr : at(here);
}

result<void> block_landing::bring_home(const std::byte* here) {
  const std::scoped_lock alone(proving_);
  std::span<std::byte> place;
  {
    const std::scoped_lock lock(mutex_);
    const landed* const block = find(here);
    if (block == nullptr)
      return fail(errc::invalid_argument, "a block that is not on the device cannot be brought home from it");
    if (block->home) return {};
    place = block->here;
  }
  lane_->stream().download(place.data(), at(place.data()), place.size());
  if (auto done = lane_->stream().wait(); !done) return done;
  const std::scoped_lock lock(mutex_);
  landed_.at(place.data()).home = true;
  return {};
}

void block_landing::leave(const std::byte* here) {
  const std::scoped_lock lock(mutex_);
  if (const landed* const block = find(here); block != nullptr) landed_.erase(block->here.data());
}

}  // namespace weft::engine
