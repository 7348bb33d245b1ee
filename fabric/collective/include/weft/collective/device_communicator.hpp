// What a communicator may offer ranks that compute on devices: asked of one by `dynamic_cast`.
#pragma once

#include <weft/collective/communicator.hpp>

#include <span>

namespace weft::device {
class recording;
class recording_stream;
class stream;
}  // namespace weft::device

namespace weft::collective {

class device_communicator : public communicator {
 public:
  // Whether the next three can be called: on all ranks, or on none.
  virtual bool sums_on_devices() const { return false; }

  // As `all_reduce`, of values that lie in the memory of this rank's device, behind what `stream` of that
  // device has to do: nothing waits, or now and then for what the stream was given long ago. `wait_for` comes
  // before other calls of this group; up to there nothing that waits for the device waits for longer than the
  // timeout for a rank that is lost or late: the group ends then.
  //
  // A stream that records keeps the sum. Either all ranks record it or none does, and what they launch comes
  // of the same recordings of all of them. A recording goes before this communicator.
  virtual result<void> all_reduce_behind(std::span<float> /*values*/, device::stream& /*stream*/) {
    return no_way();
  }

  // As the stream does, a recording with such sums.
  virtual result<void> launch(device::recording_stream& /*stream*/, const device::recording& /*recorded*/) {
    return no_way();
  }

  // As the stream's own `wait`, and whether all ranks took part in its sums.
  virtual result<void> wait_for(device::stream& /*stream*/) { return no_way(); }

  // This rank cannot go on, for a reason of its own: every later call gives `why` here, and the others learn
  // that the rank has left. Where the group has ended already nothing changes.
  virtual void leave(const error& why) = 0;

 private:
  static tl::unexpected<error> no_way() {
    return fail(errc::unsupported, "this group has no way between the memories of its ranks' devices");
  }
};

}  // namespace weft::collective
