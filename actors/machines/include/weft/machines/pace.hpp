// A bound on bytes per second for background work.
#pragma once

#include <weft/base/time.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace weft::machines {

class pace {
 public:
  // What was not used gathers for one `burst` at most.
  explicit pace(std::uint64_t bytes_per_second, duration burst = std::chrono::seconds(1))
      : bytes_per_second_(static_cast<double>(bytes_per_second)), burst_(burst) {}

  // One more piece of work may begin; its bytes are counted afterwards, so a large piece delays the next one.
  bool may_begin(time_point now) {
    if (!last_) last_ = now;
    const auto passed = std::chrono::duration<double>(now - *last_).count();
    const auto most = bytes_per_second_ * std::chrono::duration<double>(burst_).count();
    saved_ = std::min(most, saved_ + passed * bytes_per_second_);
    last_ = std::max(*last_, now);
    return saved_ >= 0;
  }

  void spend(std::uint64_t bytes) { saved_ -= static_cast<double>(bytes); }

 private:
  double bytes_per_second_;
  duration burst_;
  double saved_ = 0;
  std::optional<time_point> last_;
};

}  // namespace weft::machines
