// How long a part of a study took.
#pragma once

#include <chrono>

namespace weft::launcher::study {

inline double milliseconds_since(std::chrono::steady_clock::time_point started) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
}

}  // namespace weft::launcher::study
