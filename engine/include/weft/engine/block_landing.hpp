// Blocks that were fetched into a device's memory: proven there, and read from there by loads.
//
//   auto landing = block_landing::make(device, part of the arena)
//   fetch to landing->memory(), as far from its beginning as the block's place lies from that of the arena's
//   landing->prove(...)       // then block::view::parse(place) tells which rows there are
//   scatter_blocks(...)       // with placed_block::landing
//   landing->leave(place)
//
// The memory stands beside a part of the host's, byte for byte: what has its place at an offset of the one
// has it at the same offset of the other. After `prove` the host's place holds the block's header region and
// the counts and positions of each layer; keys, values and scales are on the device alone until `bring_home`.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/block_verifier.hpp>
#include <weft/engine/compute_device.hpp>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace weft::engine {

// Any thread may call any of it. A place's bytes on the host are read by nobody while the block is proven or
// brought home.
class block_landing {
 public:
  // `beside` outlives it, begins at a multiple of 256 bytes, and is pinned best. `out_of_space` where the
  // device has no memory for as many bytes.
  static result<std::shared_ptr<block_landing>> make(std::shared_ptr<const compute_device> on,
                                                     std::span<std::byte> beside);
  block_landing(std::shared_ptr<const compute_device> on, std::span<std::byte> beside, device::memory there,
                std::unique_ptr<device::stream> stream);
  ~block_landing();
  block_landing(const block_landing&) = delete;
  block_landing& operator=(const block_landing&) = delete;

  const compute_device& on() const { return *on_; }
  // On the device: what fetches write to.
  std::span<std::byte> memory() const { return {there_.data(), there_.size_bytes()}; }

  // A block whose header region and first bands lie on the device, where no one writes to it any more.
  struct arrived {
    std::span<std::byte> here;  // its place on the host, from a multiple of block::part_alignment_bytes on
    block::expectation expected;
  };
  // By block, what block_verifier says of it; `internal` where the device failed, `out_of_space` where it has
  // no memory for lists: nothing is known of the blocks then. Waits for the device, twice for all of them,
  // and a warp sums a band: the more blocks at once, the better.
  std::vector<result<void>> prove(std::span<const arrived> blocks);

  // Where on the device lies what has its place at `here`, of a proven block; null for anything else.
  const std::byte* there(const std::byte* here) const;

  // All bytes of the proven block around `here` to their place on the host; they stay on the device as well.
  // `internal` where the device failed: the block is to be fetched again, to the host.
  result<void> bring_home(const std::byte* here);

  // The place of the block around `here`, if one was proven there, is another's. Nothing reads it any more.
  void leave(const std::byte* here);

 private:
  struct landed {
    std::span<std::byte> here;
    bool home = false;
  };
  struct lane;

  std::byte* at(const std::byte* here) const { return there_.data() + (here - beside_.data()); }
  result<void> check_place(std::span<const std::byte> here) const;
  const landed* find(const std::byte* here) const;

  std::shared_ptr<const compute_device> on_;
  std::span<std::byte> beside_;
  device::memory there_;
  std::mutex proving_;
  std::unique_ptr<lane> lane_;  // of who has `proving_`
  mutable std::mutex mutex_;
  std::map<const std::byte*, landed> landed_;  // by their first byte
};

}  // namespace weft::engine
