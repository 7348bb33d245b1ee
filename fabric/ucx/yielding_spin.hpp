// Looking for work for a while instead of sleeping: it saves the wake-up of a thread for which somebody
// waits. Only where the core has nobody else to serve: who yields to a busy thread gets the core back when
// that one's slice ends, which is later than any wake-up.
#pragma once

#include <weft/base/time.hpp>

#include <chrono>
#include <thread>

namespace weft::fabric {

class yielding_spin {
 public:
  explicit yielding_spin(duration longest) : longest_(longest) {}

  // Yields once. False: sleep; it is too long since there was a reason to spin, or others want the core.
  bool once(time_point since, time_point now) {
    if (now >= since + longest_ || now < crowded_until_) return false;
    std::this_thread::yield();
    if (std::chrono::steady_clock::now() - now > yield_of_a_free_core) crowded_until_ = now + crowded_for;
    return true;
  }

 private:
  static constexpr auto yield_of_a_free_core = std::chrono::microseconds{100};
  static constexpr auto crowded_for = std::chrono::milliseconds{100};

  duration longest_;
  time_point crowded_until_{};
};

}  // namespace weft::fabric
