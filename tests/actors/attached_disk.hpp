// The file tier's device of a simulated node.
#pragma once

#include <weft/tier/memory_device.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace weft::simulation {

// A disk outlives the processes that use it: what a dead one still asks for does not happen.
class attached_disk final : public tier::device {
 public:
  explicit attached_disk(tier::memory_device& disk) : disk_(disk) {}

  void read(tier::area where, std::uint64_t offset, std::span<std::byte> into, done finished) override {
    if (attached_) disk_.read(where, offset, into, std::move(finished));
  }
  void write(tier::area where, std::uint64_t offset, std::span<const std::byte> from,
             done finished) override {
    if (attached_) disk_.write(where, offset, from, std::move(finished));
  }
  void sync(done finished) override {
    if (attached_) disk_.sync(std::move(finished));
  }
  std::uint64_t header_area_bytes() const override { return disk_.header_area_bytes(); }
  std::string description() const override { return "simulated"; }

  void detach() { attached_ = false; }

 private:
  tier::memory_device& disk_;
  bool attached_ = true;
};

}  // namespace weft::simulation
