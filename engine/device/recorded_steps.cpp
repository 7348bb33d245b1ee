#include "recorded_steps.hpp"

#include "device_kernels.hpp"

namespace weft::engine {

namespace {

// A recording takes device memory; sessions that come and go bring other arguments again and again.
constexpr std::size_t most_known = 64;

}  // namespace

step_recordings& recordings_of(const compute_device& on) {
  return on.kernels->recordings;
}

void recorded_steps::run(const step_arguments& arguments, const std::function<void()>& give) {
  const auto known = known_.find(arguments);
  if (known == known_.end()) {
    if (known_.size() >= most_known) known_.clear();  // the stream was waited for
    known_.emplace(arguments, nullptr);
    return give();
  }
  if (!known->second) known->second = record(give);
  if (!known->second) return give();
  stream_->launch(*known->second);
  ++counted_.launched;
}

std::unique_ptr<device::recording> recorded_steps::record(const std::function<void()>& give) {
  stream_->begin_recording();
  give();
  auto recorded = stream_->end_recording();
  ++(recorded ? counted_.recorded : counted_.refused);
  return recorded ? std::move(*recorded) : nullptr;
}

}  // namespace weft::engine
