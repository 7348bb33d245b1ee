#include <weft/fabric/arrival.hpp>

#include <unistd.h>

#include <cstdint>

namespace weft::fabric {

void arrival::come() {
  const int before = state_.exchange(here);
  if (before >= 0) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(before, &one, sizeof one);
  } else {
    state_.notify_one();  // by address: nothing is read there
  }
}

void arrival::wait() const {
  while (!has_come())
    state_.wait(awaited);
}

bool arrival::fall_asleep(int eventfd) {
  int expected = awaited;
  return state_.compare_exchange_strong(expected, eventfd);
}

void arrival::awake() {
  int asleep = state_.load();
  if (asleep >= 0) state_.compare_exchange_strong(asleep, awaited);
}

}  // namespace weft::fabric
