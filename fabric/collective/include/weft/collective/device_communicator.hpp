// What a communicator may offer ranks that compute on devices: asked of one by `dynamic_cast`.
#pragma once

#include <weft/collective/communicator.hpp>

#include <span>

namespace weft::device {
class stream;
}

namespace weft::collective {

class device_communicator : public communicator {
 public:
  // Whether the next two can be called: on all ranks, or on none.
  virtual bool sums_on_devices() const { return false; }

  // As `all_reduce`, of values that lie in the memory of this rank's device, behind what `stream` of that
  // device has to do: nothing waits. Until `wait_for` returns, this group is called for more such sums only,
  // and nothing that may wait for the device of itself: memory that is taken or given back, copies of memory
  // that is not pinned, kernels that come for the first time.
  //
  // A stream that records keeps the sum. Either all ranks record it or none does, and what they launch comes
  // of the same recordings of all of them. It goes before this communicator.
  virtual result<void> all_reduce_behind(std::span<float> /*values*/, device::stream& /*stream*/) {
    return fail(errc::unsupported, "this group has no way between the memories of its ranks' devices");
  }

  // As the stream's own `wait`, for one that has sums to do: those of a rank that is lost or late end within
  // the timeout from now, and then the stream does.
  virtual result<void> wait_for(device::stream& /*stream*/) {
    return fail(errc::unsupported, "this group has no way between the memories of its ranks' devices");
  }

  // This rank cannot go on, for a reason of its own: every later call gives `why` here, and the others learn
  // that the rank has left. Where the group has ended already nothing changes.
  virtual void leave(const error& why) = 0;
};

}  // namespace weft::collective
