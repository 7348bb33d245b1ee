// What one thread waits for while a transport works (transport::drive): another thread, or that one itself in
// a callback, says that it has come.
#pragma once

#include <atomic>

namespace weft::fabric {

class arrival {
 public:
  arrival() = default;
  arrival(const arrival&) = delete;
  arrival& operator=(const arrival&) = delete;

  // Once; any thread. The waiting thread may go on, and end this object, before the call returns.
  void come();

  bool has_come() const { return state_.load(std::memory_order_acquire) == here; }

  // The waiting thread: blocks until it has come.
  void wait() const;

  // The waiting thread, which is about to sleep until that eventfd becomes readable: `come` will write to it.
  // False: it has come. `awake` afterwards.
  bool fall_asleep(int eventfd);
  void awake();

 private:
  static constexpr int awaited = -1;
  static constexpr int here = -2;

  std::atomic<int> state_{awaited};  // else the eventfd to write to
};

}  // namespace weft::fabric
