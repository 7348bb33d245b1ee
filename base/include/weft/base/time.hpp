// Time as pure code sees it: state machines are given time points and never ask a clock.
#pragma once

#include <chrono>

namespace weft {

using duration = std::chrono::nanoseconds;
using time_point = std::chrono::time_point<std::chrono::steady_clock, duration>;

}  // namespace weft
