// What a forward pass needs of the other ranks of its group, and the memory for it: kept from pass to pass.
#pragma once

#include <weft/base/error.hpp>
#include <weft/collective/device_communicator.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

class group_sums {
 public:
  // Null, or a group of one: alone.
  explicit group_sums(collective::communicator* group)
      : group_(group), devices_(dynamic_cast<collective::device_communicator*>(group)) {}

  bool alone() const { return group_ == nullptr || group_->size() == 1; }
  // One rank has what all ranks' parts are added to; alone, this one.
  bool is_first() const { return alone() || group_->rank() == 0; }

  // Over the ranks; alone, nothing.
  result<void> sum(std::span<float> values);
  // The same of values in the device's memory, behind its stream, where the group can: else they come to the
  // host and go back.
  bool sums_on_devices() const { return !alone() && devices_ != nullptr && devices_->sums_on_devices(); }
  result<void> sum_behind(std::span<float> values, device::stream& stream) {
    return devices_->all_reduce_behind(values, stream);
  }
  // Of steps with such sums, and without.
  result<void> launch(device::recording_stream& stream, const device::recording& recorded);
  result<void> wait_for(device::stream& stream);

  // Room for this rank's columns of [rows][width], `columns` of them and the same number in every row.
  std::span<float> part(std::size_t rows, std::size_t columns, std::size_t width);

  // `out`, [rows][width], out of all ranks' parts, which lie side by side in the order of the ranks. The cut
  // is that of `shard_of`.
  result<void> gather(std::size_t rows, std::uint32_t width, std::span<float> out);

  // What every rank says, by rank; valid until the next call. All ranks call it, or none.
  result<std::span<const float>> said(float own);

  // `own`, or that another rank failed. All ranks call it, or none.
  result<void> agreed(result<void> own);

  // For what failed where the others may have gone on: ends the group. Returns `why`.
  tl::unexpected<error> ended(const error& why);

 private:
  collective::communicator* group_;
  collective::device_communicator* devices_;  // the same, or null where it is none
  std::vector<float> parts_;
  std::vector<float> said_;  // by rank
  std::vector<std::size_t> part_bytes_;
};

}  // namespace weft::engine
