// A document's rows on the device that computed them, and how its blocks are written from there: a few at a
// time are put together on the device, summed, and copied into their places, in two streams that take turns.
#pragma once

#include <weft/device/device.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/engine/document_blocks.hpp>
#include <weft/engine/kv_cache.hpp>

#include "block_assembly.hpp"
#include "staging.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weft::engine {

class device_document {
 public:
  // `out_of_space` where the rows would take more than half of what is free.
  static result<std::shared_ptr<device_document>> make(std::shared_ptr<const compute_device> on,
                                                       const kv_shape& shape, std::uint32_t tokens);
  device_document(std::shared_ptr<const compute_device> on, const kv_shape& shape, std::uint32_t tokens,
                  device::memory rows);
  ~device_document();

  const compute_device& on() const { return *on_; }

  // A pass's keys before RoPE and values, [row][kv_head][head_dim] on the device, behind what the stream was
  // given so far.
  void take(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const std::byte* k,
            const std::byte* v, device::stream& stream);

  // All rows were taken, and the stream was waited for. After an error nothing more is written to the places.
  // One thread at a time.
  result<void> write(std::uint32_t block_tokens, std::span<const block_place> blocks);

 private:
  // A few blocks on their way, and memory for them.
  struct lane {
    lane(std::shared_ptr<device::device> memory, std::unique_ptr<device::stream> made)
        : stream(std::move(made)), lists(std::move(memory), *stream) {}

    std::unique_ptr<device::stream> stream;
    staging lists;
    growing_memory images, sums;
    device::memory sums_here;  // pinned
    std::span<const block_place> blocks;
  };

  // Of a lane, on the device.
  struct room {
    std::byte* images = nullptr;
    std::uint64_t* sums = nullptr;
  };

  result<void> make_lanes();
  block::shape shape_of(const block_place& block, std::uint32_t block_tokens) const;
  result<void> begin(lane& on, std::uint32_t block_tokens, std::span<const block_place> blocks);
  result<room> reserve(lane& on, std::size_t image_bytes, std::size_t bands) const;
  result<void> finish(lane& on, std::uint32_t block_tokens) const;

  std::shared_ptr<const compute_device> on_;
  kv_shape shape_;
  std::uint32_t tokens_;
  std::size_t token_bytes_;      // of all KV heads
  device::memory rows_;          // [K, V][layer][token][kv_head][head_dim]
  std::size_t image_bytes_ = 0;  // of a lane's blocks, but for a larger one
  block_assembly assembly_;
  std::array<std::unique_ptr<lane>, 2> lanes_;  // made when they are first needed
};

}  // namespace weft::engine
