// What a communicator may offer ranks that compute on devices: asked of one by `dynamic_cast`.
#pragma once

#include <weft/collective/communicator.hpp>

#include <span>

namespace weft::collective {

class device_communicator : public communicator {
 public:
  // Whether `all_reduce_there` can be called: on all ranks, or on none.
  virtual bool sums_on_devices() const { return false; }

  // As `all_reduce`, of values that lie in the memory of this rank's device. What is to be put there was
  // waited for; the sums are there when the call returns.
  virtual result<void> all_reduce_there(std::span<float> /*values*/) {
    return fail(errc::unsupported, "this group has no way between the memories of its ranks' devices");
  }

  // This rank cannot go on, for a reason of its own: every later call gives `why` here, and the others learn
  // that the rank has left. Where the group has ended already nothing changes.
  virtual void leave(const error& why) = 0;
};

}  // namespace weft::collective
