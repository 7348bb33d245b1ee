// Decode steps that a device recorded, to run their kernels again as a whole.
#pragma once

#include <weft/engine/compute_device.hpp>

#include <atomic>
#include <cstdint>

namespace weft::engine {

// Of all models on a device. Any thread may look at them.
struct step_recordings {
  std::atomic<bool> wanted =
      true;  // whether steps are recorded, and launched: their bits are the same either way
  std::atomic<std::uint64_t> recorded = 0;
  std::atomic<std::uint64_t> launched = 0;
  std::atomic<std::uint64_t> refused = 0;  // by the device: run without a recording
};

step_recordings& recordings_of(const compute_device& on);

}  // namespace weft::engine
