#include "recorded_steps.hpp"

#include "device_kernels.hpp"

#include <algorithm>

namespace weft::engine {

namespace {

// A recording takes device memory; sessions that come and go bring other arguments again and again.
constexpr std::size_t most_known = 64;

// What a rank says of a step beside the number of its recording, which begins at 1.
constexpr float not_recorded = 0.0F;
constexpr float not_to_record = -1.0F;

bool all_are(std::span<const float> said, float wanted) {
  return std::ranges::all_of(said, [wanted](float one) { return one == wanted; });
}

}  // namespace

step_recordings& recordings_of(const compute_device& on) {
  return on.kernels->recordings;
}

result<void> recorded_steps::run(const step_arguments& arguments, const std::function<result<void>()>& give) {
  const bool first = !known_.contains(arguments);
  if (first && known_.size() >= most_known) known_.clear();  // the stream was waited for
  known_step& step = known_[arguments];
  const auto how = agree(first ? not_to_record : step.number);
  if (!how) return tl::unexpected(how.error());
  if (*how == way::as_it_comes) return give();
  if (*how == way::record) {
    const auto recorded = record(step, give);
    if (!recorded) return tl::unexpected(recorded.error());
    if (!*recorded) return give();
  }
  ++counted_.launched;
  return group_.launch(*stream_, *step.recorded);
}

result<void> recorded_steps::stand_aside() {
  const auto how = agree(not_to_record);
  return how ? result<void>{} : tl::unexpected(how.error());
}

result<recorded_steps::way> recorded_steps::agree(float own) {
  const auto said = group_.said(own);
  if (!said) return tl::unexpected(said.error());
  if (std::ranges::find(*said, not_to_record) != said->end()) return way::as_it_comes;
  return own != not_recorded && all_are(*said, own) ? way::launch : way::record;
}

// Whether all ranks did.
result<bool> recorded_steps::record(known_step& step, const std::function<result<void>()>& give) {
  step = {};
  stream_->begin_recording();
  const auto given = give();
  auto recorded = stream_->end_recording();
  if (!given) return tl::unexpected(given.error());
  ++(recorded ? counted_.recorded : counted_.refused);
  ++recordings_;
  const auto said = group_.said(recorded ? 1.0F : 0.0F);
  if (!said) return tl::unexpected(said.error());
  if (!all_are(*said, 1.0F)) return false;
  step = {std::move(*recorded), recordings_};
  return true;
}

}  // namespace weft::engine
