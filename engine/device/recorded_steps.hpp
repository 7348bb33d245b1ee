// Decode steps that were recorded, by what their kernels were given.
#pragma once

#include <weft/device/recording.hpp>
#include <weft/engine/step_recordings.hpp>

#include "../group_sums.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace weft::engine {

// Every argument that can differ from step to step: addresses and counts. Two steps with the same ones are
// the same kernels over the same memory, whatever lies in it.
using step_arguments = std::vector<std::uint64_t>;

// Ranks of a group that sum behind their streams record together, and launch together what they recorded
// together: a recorded sum is one on all ranks or on none. Their arguments differ, and so does what they
// know; before each step they tell each other.
class recorded_steps {
 public:
  // All live longer.
  recorded_steps(device::stream& stream, step_recordings& counted, group_sums& group)
      : stream_(dynamic_cast<device::recording_stream*>(&stream)), counted_(counted), group_(group) {}

  bool wanted() const { return stream_ != nullptr && counted_.wanted; }

  // Puts a step behind the stream: `give` gives it the kernels. A step that comes for the first time is
  // given as it is, since not all of them come again, and kernels that were never run may have to be loaded;
  // the second time it is recorded, from then on launched. Where the device does not record it, it goes on as
  // it is. Of a group all ranks do the same: the least of what each of them could.
  result<void> run(const step_arguments& arguments, const std::function<result<void>()>& give);

  // Instead of `run`, for a step that is done in another way here: the others give it as it is.
  result<void> stand_aside();

  // Before memory goes that values are summed in: other ranks may have been told where it lies when the sum
  // was recorded. The stream was waited for.
  void forget() { known_.clear(); }

 private:
  struct known_step {
    std::unique_ptr<device::recording> recorded;  // null: came, and was not recorded
    float number = 0;                             // of the recording, the same on all ranks
  };
  enum class way : std::uint8_t { as_it_comes, record, launch };

  result<way> agree(float own);
  result<bool> record(known_step& step, const std::function<result<void>()>& give);

  device::recording_stream* stream_;
  step_recordings& counted_;
  group_sums& group_;
  float recordings_ = 0;
  std::map<step_arguments, known_step> known_;
};

}  // namespace weft::engine
