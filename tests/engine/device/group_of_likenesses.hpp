// One rank of a group, whose device is a likeness: finds the values of sums in its memory.
#pragma once

#include <weft/collective/device_communicator.hpp>
#include <weft/device/host_device.hpp>
#include <weft/engine/compute_device.hpp>

#include <memory>
#include <span>
#include <utility>

namespace weft::engine::test {

class group_of_likenesses final : public collective::device_communicator {
 public:
  group_of_likenesses(std::unique_ptr<communicator> group, std::shared_ptr<const compute_device> device)
      : group_(std::move(group)),
        ranks_(dynamic_cast<device_communicator&>(*group_)),
        device_(std::move(device)) {}

  unsigned rank() const override { return group_->rank(); }
  unsigned size() const override { return group_->size(); }
  result<void> all_reduce(std::span<float> values) override { return group_->all_reduce(values); }
  result<void> broadcast(std::span<std::byte> bytes, unsigned root) override {
    return group_->broadcast(bytes, root);
  }
  result<void> all_gather(std::span<std::byte> all, std::span<const std::size_t> part_bytes) override {
    return group_->all_gather(all, part_bytes);
  }
  result<void> barrier() override { return group_->barrier(); }
  bool sums_on_devices() const override { return true; }
  result<void> all_reduce_there(std::span<float> values) override {
    const auto& memory = dynamic_cast<const device::host_device&>(*device_->memory);
    const std::span<float> found(memory.at(values.data(), values.size()), values.size());
    return ranks_.sums_on_devices() ? ranks_.all_reduce_there(found) : group_->all_reduce(found);
  }
  void leave(const error& why) override { ranks_.leave(why); }

 private:
  std::unique_ptr<communicator> group_;
  device_communicator& ranks_;  // the same
  std::shared_ptr<const compute_device> device_;
};

}  // namespace weft::engine::test
