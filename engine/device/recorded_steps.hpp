// Decode steps that were recorded, by what their kernels were given.
#pragma once

#include <weft/device/recording.hpp>
#include <weft/engine/step_recordings.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace weft::engine {

// Every argument that can differ from step to step: addresses and counts. Two steps with the same ones are
// the same kernels over the same memory, whatever lies in it.
using step_arguments = std::vector<std::uint64_t>;

class recorded_steps {
 public:
  // Both live longer.
  recorded_steps(device::stream& stream, step_recordings& counted)
      : stream_(dynamic_cast<device::recording_stream*>(&stream)), counted_(counted) {}

  bool wanted() const { return stream_ != nullptr && counted_.wanted; }

  // Puts a step behind the stream: `give` gives it the kernels. A step that comes for the first time is
  // given as it is, since not all of them come again, and kernels that were never run may have to be loaded;
  // the second time it is recorded, from then on launched. Where the device does not record it, it goes on as
  // it is.
  void run(const step_arguments& arguments, const std::function<void()>& give);

 private:
  std::unique_ptr<device::recording> record(const std::function<void()>& give);

  device::recording_stream* stream_;
  step_recordings& counted_;
  std::map<step_arguments, std::unique_ptr<device::recording>> known_;  // null: came, and was not recorded
};

}  // namespace weft::engine
