// One rank of a group, whose device is a likeness: finds the values of sums in its memory.
#pragma once

#include <weft/collective/device_communicator.hpp>
#include <weft/device/host_device.hpp>
#include <weft/device/recording.hpp>

#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace weft::engine::test {

class group_of_likenesses final : public collective::device_communicator {
 public:
  // Over all ranks, of values on the host.
  using host_sum = std::function<result<void>(std::span<float>)>;

  group_of_likenesses(std::unique_ptr<communicator> group, host_sum sum)
      : group_(std::move(group)), ranks_(dynamic_cast<device_communicator&>(*group_)), sum_(std::move(sum)) {}

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
  result<void> all_reduce_behind(std::span<float> values, device::stream& stream) override {
    if (!outcome_) return outcome_;
    const float recorded = device::records_on_host(stream) ? ++recorded_ : 0.0F;
    device::run_on_host(stream, [this, values, recorded](const device::host_device& memory) {
      sum(std::span(memory.at(values.data(), values.size()), values.size()), recorded);
    });
    return {};
  }
  result<void> launch(device::recording_stream& stream, const device::recording& recorded) override {
    if (outcome_) stream.launch(recorded);
    return outcome_;
  }
  result<void> wait_for(device::stream& stream) override {
    auto done = stream.wait();
    return outcome_ ? done : outcome_;
  }
  void leave(const error& why) override { ranks_.leave(why); }

 private:
  // Ranks also add up which of the recorded sums it is, as NCCL wants it to be the same one on all.
  void sum(std::span<float> values, float recorded) {
    summed_.assign(values.begin(), values.end());
    summed_.push_back(recorded);
    outcome_ = sum_(summed_);
    if (outcome_ && summed_.back() != recorded * static_cast<float>(size()))
      outcome_ = fail(errc::internal, "a recorded sum met another one");
    if (!outcome_) throw std::runtime_error(outcome_.error().context);
    std::copy_n(summed_.begin(), values.size(), values.begin());
  }

  std::unique_ptr<communicator> group_;
  device_communicator& ranks_;  // the same
  host_sum sum_;
  result<void> outcome_;  // of all sums so far
  float recorded_ = 0;
  std::vector<float> summed_;
};

}  // namespace weft::engine::test
